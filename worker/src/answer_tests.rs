//! Answers as models give them, and what is taken out of them.

use proptest::prelude::*;

use super::*;

fn pair(question: &str, answer: &str) -> Pair {
    Pair { question: question.to_owned(), answer: answer.to_owned() }
}

fn two() -> Vec<Pair> {
    vec![pair("What is a stream?", "A message store."), pair("Who acks?", "The consumer acks.")]
}

#[test]
fn the_forms_that_models_use_are_understood() {
    let inner = r#"{"question":"What is a stream?","answer":"A message store."},{"question":"Who acks?","answer":"The consumer acks."}"#;
    for raw in [
        format!(r#"{{"pairs":[{inner}]}}"#),
        format!("[{inner}]"),
        format!(r#"{{"qa_pairs":[{inner}]}}"#),
        format!(r#"{{"result":{{"data":[{inner}]}}}}"#),
        inner.replace("},{", "}\n{"),
        format!("```json\n[{inner}]\n```"),
        format!("Here are [2] pairs:\n\n[{inner}]\n\nI hope {{this}} helps."),
        format!("<think>\nI could write {{\"question\":\"x\",\"answer\":\"y\"}}.\n</think>\n\n[{inner}]"),
        format!("the template opened it</think>[{inner}]"),
        format!("<thinking>hm</thinking>```\n[{inner}]"),
        format!("[{}]", inner.replace("\"question\"", "\"Question\"").replace("\"answer\"", "\"ANSWER\"")),
        format!("[{}]", inner.replace("\"question\"", "\"q\"").replace("\"answer\"", "\"a\"")),
        format!("[{}]", inner.replace("\"question\"", "\"instruction\"").replace("\"answer\"", "\"output\"")),
        format!("[{}]", inner.replace("\"answer\"", "\"response\"")),
        r#"{"question_1":"What is a stream?","answer_1":"A message store.","question_2":"Who acks?","answer_2":"The consumer acks."}"#.to_owned(),
        r#"[{"answer":" A message store. ","question":"What is a stream?\n"},{"id":7,"q":"Who acks?","a":["The consumer acks."]}]"#.to_owned(),
        r#"{"response":{"pairs":[{"question":"What is a stream?","response":"A message store."},{"question":"Who acks?","response":"The consumer acks."}]}}"#.to_owned(),
    ] {
        let parsed = parse(&raw, 5, &[]);
        assert_eq!(parsed.pairs, two(), "{raw}");
        assert!(parsed.problems.is_empty() && !parsed.truncated, "{raw}: {:?}", parsed.problems);
    }
}

#[test]
fn what_is_unusable_says_why() {
    for (raw, problem) in [
        ("  \n", Problem::Empty),
        ("<think>I wonder {\"question\":\"x?\",\"answer\":\"y\"}", Problem::OnlyReasoning),
        ("I cannot do that.", Problem::NoJson),
        (r#"{"pairs":[]}"#, Problem::NoPairs),
        (r#"{"error":"no"}"#, Problem::NoPairs),
        (r#"[{"question":"Why?"}]"#, Problem::Incomplete),
        (r#"[{"question":"Why?","answer":"  "}]"#, Problem::Incomplete),
        (r#"[{"question":"Why?","answer":null}]"#, Problem::Incomplete),
        (r#"[{"question":"Why so?","answer":"why  SO"}]"#, Problem::AnswerIsQuestion),
        (r#"[{"question":"...","answer":"..."}]"#, Problem::Placeholder),
        (r#"[{"question":"string","answer":"string"}]"#, Problem::Placeholder),
        (r#"[{"question":"Question 1","answer":"Because."}]"#, Problem::Placeholder),
        (r#"[{"question":"question_2?","answer":"Because."}]"#, Problem::Placeholder),
        (r#"[{"question":"Why is that?","answer":"<answer>"}]"#, Problem::Placeholder),
        (r#"[{"question":"Why is that?","answer":"N/A"}]"#, Problem::Placeholder),
        (r#"[{"question":"???","answer":"Because."}]"#, Problem::Placeholder),
    ] {
        let parsed = parse(raw, 3, &[]);
        assert_eq!((parsed.pairs.len(), parsed.problems), (0, vec![problem]), "{raw}");
    }
    let endless = format!(r#"[{{"question":"Why?","answer":"{}"}}]"#, "very ".repeat(10_000));
    assert_eq!(parse(&endless, 3, &[]).problems, [Problem::TooLong]);
}

#[test]
fn short_and_symbolic_answers_are_answers() {
    for answer in ["*", ">", "-", "42", "Yes", "null", "None", "A <div> element", "?foo", "QUESTION"] {
        let raw = format!(r#"[{{"question":"Which one?","answer":"{answer}"}}]"#);
        let expected: &[Pair] = if answer == "QUESTION" { &[] } else { &[pair("Which one?", answer)] };
        assert_eq!(parse(&raw, 1, &[]).pairs, expected, "{answer}");
    }
    assert_eq!(parse(r#"[{"q":"How many?","a":42}]"#, 1, &[]).pairs, [pair("How many?", "42")]);
}

#[test]
fn a_cut_answer_keeps_its_complete_pairs() {
    let whole = r#"{"pairs":[{"question":"What is a stream?","response":"A message store."},{"question":"Who acks?","response":"The cons"#;
    let parsed = parse(whole, 3, &[]);
    assert_eq!(parsed.pairs, two()[..1]);
    assert!(parsed.truncated && parsed.problems.contains(&Problem::Cut));
}

#[test]
fn duplicates_are_dropped_whatever_their_case_and_punctuation() {
    let raw = r#"[{"q":"What is  a stream","a":"x"},{"q":"Who acks?","a":"1"},{"q":"“WHO acks”","a":"2"},{"q":"What does * match?","a":"3"},{"q":"What does > match?","a":"4"}]"#;
    let parsed = parse(raw, 9, &two()[..1]);
    let questions: Vec<_> = parsed.pairs.iter().map(|pair| pair.question.as_str()).collect();
    assert_eq!(questions, ["Who acks?", "What does * match?", "What does > match?"]);
    assert_eq!(parsed.problems, [Problem::Duplicate]);
}

#[test]
fn too_many_pairs_leave_the_first_ones() {
    let raw = serde_json::to_string(&two()).unwrap();
    let parsed = parse(&raw, 1, &[]);
    assert_eq!((parsed.pairs, parsed.problems), (two()[..1].to_vec(), vec![Problem::TooMany]));
}

#[test]
fn an_enormous_answer_is_read_up_to_the_limit() {
    let raw = format!("[{}", "{\"q\":\"a".repeat(1_000_000));
    assert!(parse(&raw, 3, &[]).pairs.is_empty());
    assert!(parse(&"[".repeat(5_000_000), 3, &[]).pairs.is_empty());
    assert!(parse(&"\"{ \"".repeat(1_000_000), 3, &[]).pairs.is_empty());
}

fn any_pairs() -> impl Strategy<Value = Vec<Pair>> {
    // A unique number makes the questions distinct.
    prop::collection::vec(
        ("[a-zA-Zäö中文 {}\\[\\]\",\\\\\n]{0,30}", "[a-z中é {}\\[\\]\",:\\\\\n]{1,30}x"),
        0..6,
    )
    .prop_map(|texts| {
        let number = |(n, (question, answer)): (usize, (String, String))| Pair {
            question: format!("{n}{question}").trim().to_owned(),
            answer: format!("because {answer}"),
        };
        texts.into_iter().enumerate().map(number).collect()
    })
}

proptest! {
    #[test]
    fn valid_pairs_come_back_from_any_wrapping(pairs in any_pairs(), wrapping in 0..4u8) {
        let json = serde_json::to_string(&pairs).unwrap();
        let raw = match wrapping {
            0 => json,
            1 => format!("{{\"pairs\":{json}}}"),
            2 => format!("<think>so [x]</think>Here:\n```json\n{json}\n```\nDone."),
            _ => serde_json::to_string_pretty(&pairs).unwrap(),
        };
        prop_assert_eq!(parse(&raw, pairs.len(), &[]).pairs, pairs);
    }

    #[test]
    fn a_cut_answer_gives_a_prefix_of_its_pairs(pairs in any_pairs(), at: prop::sample::Index) {
        let raw = serde_json::to_string(&pairs).unwrap();
        let ends: Vec<usize> = raw.char_indices().map(|(end, _)| end).collect();
        let cut = parse(&raw[..ends[at.index(ends.len())]], pairs.len(), &[]).pairs;
        prop_assert!(cut.len() <= pairs.len());
        prop_assert_eq!(&cut[..], &pairs[..cut.len()]);
    }

    #[test]
    fn a_damaged_answer_never_panics_nor_exceeds_what_was_asked(
        pairs in any_pairs(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 0..8),
        asked in 0..4usize,
    ) {
        let mut chars: Vec<char> = serde_json::to_string(&pairs).unwrap().chars().collect();
        for (at, c) in damage {
            let at = at.index(chars.len());
            chars[at] = c;
        }
        let parsed = parse(&chars.into_iter().collect::<String>(), asked, &[]);
        prop_assert!(parsed.pairs.len() <= asked);
        prop_assert!(parsed.pairs.iter().all(|pair| check(pair).is_ok()));
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let parsed = parse(&String::from_utf8_lossy(&bytes), 3, &[]);
        prop_assert!(!parsed.problems.is_empty() || !parsed.pairs.is_empty());
    }
}
