//! How many tokens a text takes, estimated without a tokenizer: careful, so that what fits here fits there.
//!
//! PURE. The coordinator sizes a job's context with it, the worker checks prompts and counts tokens that a
//! server does not report. It must not know any model. The weights are measured: `tokens_tests.rs` holds real
//! counts of seven tokenizers.

/// Room for the built-in prompt without the chunk, the user's own parts and the answer, in tokens: system
/// message, instructions, and what chat templates add.
pub const BUILT_IN_PROMPT_TOKENS: u32 = 900;

/// What chat templates add around a conversation and around each message, in tokens.
const CONVERSATION_OVERHEAD: u32 = 16;
const MESSAGE_OVERHEAD: u32 = 8;

/// Weights are in this fraction of a token.
const UNIT: u64 = 12;
/// A letter of an ordinary word; most tokenizers take four or five to a token, small ones three.
const LETTER: u64 = 4;
/// A capital letter after another one.
const CAPITAL: u64 = 6;
/// A letter among digits, in a run of letters that is no word, or in base64 text.
const DENSE_LETTER: u64 = 10;
/// A digit: many tokenizers (Llama 2, Gemma, Qwen, Mistral) give each its own token.
const DIGIT: u64 = 12;
/// A space before a digit or before a script whose words have no token: it is not merged with what follows.
const LONE_SPACE: u64 = 8;
/// A punctuation mark after a letter or digit, and one elsewhere.
const MARK_AFTER_WORD: u64 = 12;
const MARK: u64 = 10;
/// No word has more letters; longer runs are codes.
const LONGEST_WORD: u32 = 24;
/// So many capitals after small letters make a run of letters a code.
const MOST_HUMPS: u32 = 3;

/// The end of each range of code points from U+0080, and the weight of a character in it: what it takes at most
/// in real texts. Where no tokenizer has merges for a script, that is a token per byte.
const SCRIPTS: &[(u32, u64)] = &[
    (0x150, 24),    // Latin-1, part of Latin Extended-A
    (0x370, 36),    // other Latin letters, phonetic and combining marks
    (0x400, 15),    // Greek
    (0x530, 12),    // Cyrillic
    (0x590, 26),    // Armenian
    (0x780, 15),    // Hebrew, Arabic, Syriac
    (0x900, 36),    // Thaana, N'Ko and others
    (0x980, 18),    // Devanagari
    (0xa00, 27),    // Bengali
    (0xb80, 36),    // Gurmukhi, Gujarati, Oriya
    (0xc00, 26),    // Tamil
    (0xd00, 36),    // Telugu, Kannada
    (0xd80, 28),    // Malayalam
    (0xe00, 36),    // Sinhala
    (0xe80, 24),    // Thai
    (0xf00, 36),    // Lao
    (0x1000, 28),   // Tibetan
    (0x10a0, 36),   // Burmese
    (0x1100, 26),   // Georgian
    (0x1780, 36),   // Hangul Jamo, Ethiopic, Cherokee and others
    (0x1800, 28),   // Khmer
    (0x1e00, 36),   // Mongolian and others
    (0x1f00, 30),   // Vietnamese letters
    (0x2000, 36),   // old Greek
    (0x2070, 18),   // dashes and quotation marks
    (0x2500, 36),   // symbols
    (0x2580, 12),   // box drawing
    (0x3000, 36),   // more symbols
    (0x3100, 24),   // Japanese syllables, Chinese punctuation
    (0x4e00, 36),   // rare ideographs
    (0xa000, 26),   // Chinese, Japanese
    (0x1_0000, 36), // Korean, private use, presentation forms
    (0x1_f000, 48), // old scripts, rare ideographs
    (0x1_fb00, 36), // emoji
    (0x11_0000, 48),
];

/// Tokens that a text takes at most with common tokenizers, by its classes of characters.
pub fn estimate_tokens(text: &str) -> u32 {
    let mut reader = Reader::default();
    let weight = text.chars().fold(0_u64, |sum, c| sum.saturating_add(reader.weigh(c)));
    u32::try_from(weight.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Tokens that a conversation takes at most, with what chat templates add.
pub fn estimate_conversation<'a>(contents: impl IntoIterator<Item = &'a str>) -> u32 {
    contents.into_iter().fold(CONVERSATION_OVERHEAD, |sum, content| {
        sum.saturating_add(estimate_tokens(content)).saturating_add(MESSAGE_OVERHEAD)
    })
}

/// Tokens that a text takes at least with any common tokenizer: repeated blanks and marks merge, long words have
/// a token each, some tokenizers take three digits to one.
pub fn fewest_tokens(text: &str) -> u32 {
    let (mut eighths, mut last) = (0_u64, None);
    for c in text.chars() {
        if c.is_alphanumeric() || last != Some(c) {
            eighths += match c {
                '0'..='9' | '\u{2e80}'.. => 2,
                _ => 1,
            };
        }
        last = Some(c);
    }
    u32::try_from(eighths / 8).unwrap_or(u32::MAX)
}

/// Tokens that a text takes whatever the tokenizer, given its [`estimate_tokens`]: a token stands for at least
/// one byte, and a text has at most three bytes per estimated token.
pub fn most_tokens(estimate: u32) -> u64 {
    u64::from(estimate) * 3
}

/// Looks at one character after the other; what came before it in its run of letters and digits counts.
#[derive(Default)]
struct Reader {
    last: Option<char>,
    /// Letters and digits in the present run.
    run: u32,
    has_digit: bool,
    humps: u32,
}

impl Reader {
    fn weigh(&mut self, c: char) -> u64 {
        let weight = if c.is_ascii_alphanumeric() { self.weigh_word(c) } else { self.weigh_other(c) };
        self.last = Some(c);
        weight
    }

    fn weigh_word(&mut self, c: char) -> u64 {
        if !self.last.is_some_and(|last| last.is_ascii_alphanumeric()) {
            (self.run, self.has_digit, self.humps) = (0, false, 0);
        }
        self.run = self.run.saturating_add(1);
        if c.is_ascii_digit() {
            self.has_digit = true;
            return DIGIT + self.lone_space();
        }
        let after = |is: fn(&char) -> bool| self.last.as_ref().is_some_and(is);
        let is_capital = c.is_ascii_uppercase();
        let after_capital = after(char::is_ascii_uppercase);
        self.humps += u32::from(is_capital && after(char::is_ascii_lowercase));
        if self.has_digit || self.humps >= MOST_HUMPS || self.run > LONGEST_WORD {
            DENSE_LETTER
        } else if is_capital && after_capital {
            CAPITAL
        } else {
            LETTER
        }
    }

    fn weigh_other(&self, c: char) -> u64 {
        let is_repeated = self.last == Some(c);
        match c {
            ' ' => LETTER,
            // Rules, leaders and empty lines merge.
            '\0'..='\x7f' if is_repeated => LETTER,
            '\n' => UNIT,
            '\0'..='\x7f' if self.last.is_some_and(char::is_alphanumeric) => MARK_AFTER_WORD,
            '\0'..='\x7f' => MARK,
            _ => {
                let code = u32::from(c);
                let row = SCRIPTS.partition_point(|(end, _)| *end <= code);
                let weight = SCRIPTS.get(row).map_or(0, |(_, weight)| *weight);
                weight + if code >= 0x900 { self.lone_space() } else { 0 }
            }
        }
    }

    fn lone_space(&self) -> u64 {
        if self.last == Some(' ') { LONE_SPACE } else { 0 }
    }
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
