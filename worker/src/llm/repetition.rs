//! Notices that a model repeats itself without end, while its answer still grows.
//!
//! PURE. Small models fall into loops: one clause, one pair or one character until the output limit. Only an
//! exact repetition of some length counts, so that tables, keys of JSON and questions of one wording do not.
//! It must not know what is done about it.

/// Text without letters, such as lines of tables and blanks, may be repeated over this many bytes.
const MOST_WITHOUT_LETTERS: usize = 2000;
/// Any other text may be repeated over this many bytes.
const MOST_WITH_LETTERS: usize = 1000;
/// And it may be repeated this often, however long it is.
const MOST_TIMES: usize = 5;
/// Longer texts are not recognised when they are repeated, in bytes.
const LONGEST_UNIT: usize = 1200;
/// Of an answer only this much of its end is looked at.
const WINDOW: usize = LONGEST_UNIT * (MOST_TIMES + 1);
/// It is looked at after every so many bytes.
const STEP: usize = 256;

/// Watches an answer.
#[derive(Debug, Default)]
pub(super) struct Watch {
    end: Vec<u8>,
    unseen: usize,
}

impl Watch {
    /// Takes what was added. True as soon as the answer only repeats itself.
    pub(super) fn repeats(&mut self, added: &str) -> bool {
        let bytes = added.as_bytes();
        let (mut from, mut repeats) = (0, false);
        while from < bytes.len() && !repeats {
            let to = bytes.len().min(from + STEP - self.unseen);
            self.end.extend_from_slice(&bytes[from..to]);
            self.unseen += to - from;
            from = to;
            if self.unseen == STEP {
                self.unseen = 0;
                if self.end.len() > 2 * WINDOW {
                    self.end.drain(..self.end.len() - WINDOW);
                }
                repeats = ends_in_a_loop(&self.end);
            }
        }
        repeats
    }
}

/// Whether a whole answer ends by repeating itself.
pub(super) fn repeats(answer: &str) -> bool {
    ends_in_a_loop(answer.as_bytes())
}

/// The text read backwards begins with the loop: for each of its beginnings, the failure function of Knuth,
/// Morris and Pratt gives the shortest unit that it consists of.
fn ends_in_a_loop(text: &[u8]) -> bool {
    let backwards: Vec<u8> = text.iter().rev().take(WINDOW).copied().collect();
    // Up to here a unit holds no letter.
    let first_letter = backwards.iter().position(|byte| is_letter(*byte)).unwrap_or(backwards.len());
    let mut borders = vec![0; backwards.len()];
    let mut border = 0;
    for at in 1..backwards.len() {
        while border > 0 && backwards[at] != backwards[border] {
            border = borders[border - 1];
        }
        if backwards[at] == backwards[border] {
            border += 1;
        }
        borders[at] = border;
        let length = at + 1;
        let unit = length - border;
        let most = if first_letter < unit { MOST_WITH_LETTERS } else { MOST_WITHOUT_LETTERS };
        if unit <= LONGEST_UNIT && length > most && length > unit * MOST_TIMES {
            return true;
        }
    }
    false
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Bytes of a loop after which it is noticed, however it arrives; none where it is not.
    fn noticed_after(before: &str, unit: &str, times: usize, piece: usize) -> Option<usize> {
        let mut watch = Watch::default();
        assert!(!watch.repeats(before), "{before}");
        let all = unit.repeat(times);
        let chars: Vec<char> = all.chars().collect();
        let mut bytes = 0;
        for piece in chars.chunks(piece) {
            let piece: String = piece.iter().collect();
            bytes += piece.len();
            if watch.repeats(&piece) {
                return Some(bytes);
            }
        }
        None
    }

    fn watched(text: &str) -> bool {
        Watch::default().repeats(text) || repeats(text)
    }

    #[test]
    fn loops_of_small_models_are_noticed_soon() {
        let pair = r#"{"question":"What is a stream?","response":"It is a store of messages."},"#;
        for unit in
            ["and the pump is inspected, ", pair, "a", "\\n", "\n", " ", "的", "🙂", "0", "-", "=-", "| --- "]
        {
            let after = noticed_after(r#"{"pairs":[{"question":"Why?","response":""#, unit, 6000, 4);
            let bound = MOST_WITHOUT_LETTERS + unit.len() + 2 * STEP;
            assert!(after.is_some_and(|bytes| bytes <= bound), "{unit:?}: {after:?}");
        }
    }

    #[test]
    fn tables_lists_and_json_are_no_loops() {
        let row = |n: u32| format!("| valve {n} | open | open | open | {} |\n", n * 7);
        let table: String = format!("{}\n", "|---".repeat(60)) + &(0..200).map(row).collect::<String>();
        let items: String = (1..400)
            .map(|n| format!("§ {n} applies as long as § {} does not. ", n + 1))
            .collect::<Vec<_>>()
            .concat();
        let ports: String = (8000..8600).map(|port| format!("{port}, ")).collect::<Vec<_>>().concat();
        let lines = format!("{}\n{}\n{}", "-".repeat(200), "=".repeat(300), ".".repeat(1000));
        let rows_of_zeros: String = (0..60)
            .map(|n| format!("{:08x}  00 00 00 00 00 00 00 00\n", n * 16))
            .collect::<Vec<_>>()
            .concat();
        let keys: Vec<Value> =
            (0..120).map(|n| json!({ "id": n, "state": "open", "checked": true })).collect();
        let keys = serde_json::to_string_pretty(&keys).unwrap();
        let pairs: Vec<Value> = (0..60).map(|n| json!({
            "question": format!("What does the manual say about valve {n} of the Corvina 300?"),
            "response": format!("The manual says that valve {n} of the Corvina 300 must be closed before maintenance."),
        })).collect();
        let pairs = serde_json::to_string_pretty(&json!({ "pairs": pairs })).unwrap();
        let same = "N/A, ".repeat(150);
        for text in [&table, &items, &ports, &lines, &rows_of_zeros, &keys, &pairs, &same] {
            for piece in [1, 7, 100_000] {
                let mut watch = Watch::default();
                let chars: Vec<char> = text.chars().collect();
                assert!(
                    !chars.chunks(piece).any(|piece| watch.repeats(&piece.iter().collect::<String>())),
                    "{text}"
                );
            }
            assert!(!repeats(text), "{text}");
        }
    }

    fn question(n: usize, words: &[String]) -> Value {
        json!({ "question": format!("What is {} {n}?", words.join(" ")), "answer": format!("It is {n}.") })
    }

    proptest! {
        #[test]
        fn a_loop_is_noticed_within_a_bounded_number_of_bytes(
            before in "[a-z \"{}:,\n]{0,900}",
            unit in "[a-zé ,.\"\\\\{}|0-9\n-]{1,120}",
            piece in 1..40usize,
        ) {
            let after = noticed_after(&before, &unit, 2 + 4000 / unit.len(), piece);
            let bound = MOST_WITHOUT_LETTERS.max(unit.len() * (MOST_TIMES + 1)) + unit.len() + 2 * STEP + 4 * piece;
            prop_assert!(after.is_some_and(|bytes| bytes <= bound), "{:?}", after);
        }

        #[test]
        fn different_questions_of_one_wording_are_no_loop(
            words in prop::collection::vec("[a-z]{1,8}", 1..30), count in 1..60usize, pretty: bool,
        ) {
            let pairs: Vec<Value> = (0..count).map(|n| question(n, &words)).collect();
            let text = if pretty { serde_json::to_string_pretty(&pairs) } else { serde_json::to_string(&pairs) };
            prop_assert!(!watched(&text.unwrap()));
        }

        #[test]
        fn rows_with_a_number_are_no_loop(cells in prop::collection::vec("[a-z0-9 .-]{0,12}", 1..8), rows in 1..200usize) {
            let text: String = (0..rows).map(|row| format!("| {row} | {} |\n", cells.join(" | "))).collect::<Vec<_>>().concat();
            prop_assert!(!watched(&text));
        }

        #[test]
        fn blanks_of_deep_json_are_no_loop(depth in 1..40usize) {
            let mut value = json!([1, "x"]);
            for level in 0..depth {
                value = json!({ format!("level {level}"): value, "same": "text" });
            }
            prop_assert!(!watched(&serde_json::to_string_pretty(&value).unwrap()));
        }
    }
}
