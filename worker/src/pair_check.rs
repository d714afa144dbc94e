//! Whether a question with its answer is worth keeping, and whether two questions are the same.
//!
//! PURE. It must not know where a pair comes from.

use qa_shared::model::Pair;

use crate::answer::Problem;

/// Longer questions are run-away generations, in characters.
const MAX_QUESTION_CHARS: usize = 2_000;
/// Longer answers are run-away generations, in characters.
const MAX_RESPONSE_CHARS: usize = 16_000;

/// Refuses what no reader would call a question with its answer.
pub(crate) fn check(pair: &Pair) -> Result<(), Problem> {
    if pair.question.is_empty() || pair.answer.is_empty() {
        return Err(Problem::Incomplete);
    }
    if pair.question.chars().nth(MAX_QUESTION_CHARS).is_some()
        || pair.answer.chars().nth(MAX_RESPONSE_CHARS).is_some()
    {
        return Err(Problem::TooLong);
    }
    let question_says_nothing = !pair.question.chars().any(char::is_alphanumeric);
    if question_says_nothing || is_placeholder(&pair.question) || is_placeholder(&pair.answer) {
        return Err(Problem::Placeholder);
    }
    if normalised(&pair.question) == normalised(&pair.answer) {
        return Err(Problem::AnswerIsQuestion);
    }
    Ok(())
}

/// Texts that models copy from a description of the form instead of filling it in.
fn is_placeholder(text: &str) -> bool {
    if text.len() > 60 {
        return false;
    }
    // A lone `*`, `>` or `-` can be an answer, dots and lines cannot.
    if text.chars().all(|c| matches!(c, '.' | '…' | '_' | '?' | ' '))
        || (text.len() > 1 && text.chars().all(|c| c == '-'))
    {
        return true;
    }
    let inner =
        text.trim_matches(['<', '>', '[', ']', '{', '}', '(', ')', '"', '\'', '.', '…', ' ', ':', '?']);
    let inner = inner.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['_', ' ', '#', '-']);
    let marked = inner.len() < text.len();
    match inner.to_lowercase().as_str() {
        "question"
        | "answer"
        | "response"
        | "your question"
        | "your answer"
        | "your response"
        | "the question"
        | "the answer"
        | "question text"
        | "answer text"
        | "response text"
        | "question here"
        | "answer here"
        | "your question here"
        | "your answer here"
        | "question goes here"
        | "answer goes here"
        | "insert question here"
        | "insert answer here"
        | "string"
        | "n/a"
        | "tbd"
        | "placeholder" => true,
        "text" | "todo" => marked,
        _ => false,
    }
}

/// The form in which questions are compared: case, blanks and sentence punctuation do not matter.
pub(crate) fn normalised(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || is_sentence_punctuation(c)) {
        if !word.is_empty() {
            if !normal.is_empty() {
                normal.push(' ');
            }
            if word.is_ascii() {
                let begin = normal.len();
                normal.push_str(word);
                normal[begin..].make_ascii_lowercase();
            } else {
                normal.extend(word.chars().flat_map(char::to_lowercase));
            }
        }
    }
    normal
}

/// Symbols such as `*` and `>` are no punctuation: "what does * match" is not "what does > match".
fn is_sentence_punctuation(c: char) -> bool {
    matches!(
        c,
        '.' | ','
            | ';'
            | ':'
            | '!'
            | '?'
            | '"'
            | '\''
            | '`'
            | '('
            | ')'
            | '¿'
            | '¡'
            | '«'
            | '»'
            | '“'
            | '”'
            | '„'
            | '‘'
            | '’'
            | '…'
            | '。'
            | '，'
            | '、'
            | '；'
            | '：'
            | '！'
            | '？'
            | '「'
            | '」'
            | '（'
            | '）'
    )
}
