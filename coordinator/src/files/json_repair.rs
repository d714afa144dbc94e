//! JSON as Python's `json` module writes it, made JSON that every reader takes (PURE).
//!
//! Python writes halves of surrogate pairs, `NaN` and `Infinity`, nests without limit, and reads all of it again.
//! Here half a pair becomes U+FFFD; what is no number, is too large for one, or is nested too deeply becomes null.
//! Of a name that stands twice in an object the last value counts, as in Python. It does not repair what Python
//! would not read either.

use std::fmt;
use std::ops::AddAssign;

use memchr::memchr3;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::json_scan::end_of_value;

/// serde_json reads no deeper.
const MAX_DEPTH: usize = 127;
/// A shorter number without exponent always fits into a float.
const SURELY_FINITE: usize = 300;

/// How often something was read as something else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Halves of surrogate pairs, read as U+FFFD.
    pub surrogates: usize,
    /// `NaN`, `Infinity` and numbers that no float holds, read as null.
    pub not_numbers: usize,
    /// Values nested too deeply, read as null.
    pub too_deep: usize,
}

impl Repairs {
    /// Whether anything was repaired.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

impl AddAssign for Repairs {
    fn add_assign(&mut self, other: Self) {
        self.surrogates += other.surrogates;
        self.not_numbers += other.not_numbers;
        self.too_deep += other.too_deep;
    }
}

impl fmt::Display for Repairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.surrogates, "half surrogate pair", "read as U+FFFD"),
            (self.not_numbers, "NaN, Infinity or too large number", "read as null"),
            (self.too_deep, "value nested deeper than 127 levels", "read as null"),
        ];
        let mut separator = "";
        for (number, what, meaning) in parts.into_iter().filter(|(number, ..)| *number > 0) {
            write!(f, "{separator}{number} x {what} ({meaning})")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Reads a value as a type; what cannot be read as it stands is read repaired. The error is the one about the
/// text as it stands.
pub(crate) fn from_slice<T: DeserializeOwned>(raw: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(raw).or_else(|strict| {
        let text = repaired(raw).map(|(text, _)| text);
        match serde_json::from_slice::<Value>(text.as_deref().unwrap_or(raw)) {
            Ok(value) => T::deserialize(value),
            Err(_) => Err(strict),
        }
    })
}

/// A value's text repaired; `None` where there is nothing to repair.
pub(crate) fn repaired(raw: &[u8]) -> Option<(Vec<u8>, Repairs)> {
    let mut repair = Repair { raw, out: Vec::new(), taken: 0, repairs: Repairs::default() };
    repair.run();
    if !repair.repairs.any() {
        return None;
    }
    repair.out.extend_from_slice(&raw[repair.taken..]);
    Some((repair.out, repair.repairs))
}

struct Repair<'a> {
    raw: &'a [u8],
    out: Vec<u8>,
    /// Up to here the text is in `out`.
    taken: usize,
    repairs: Repairs,
}

impl Repair<'_> {
    fn run(&mut self) {
        let (mut at, mut depth) = (0, 0_usize);
        while let Some(byte) = self.raw.get(at) {
            at = match byte {
                b'"' => self.string(at + 1),
                b'{' | b'[' if depth == MAX_DEPTH => {
                    let end = at + end_of_value(&self.raw[at..]).unwrap_or(self.raw.len() - at);
                    self.repairs.too_deep += 1;
                    self.replace(at, end, b"null")
                }
                b'{' | b'[' => {
                    depth += 1;
                    at + 1
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    at + 1
                }
                b'N' | b'I' | b'-' | b'0'..=b'9' => self.number(at),
                _ => at + 1,
            };
        }
    }

    fn replace(&mut self, from: usize, to: usize, by: &[u8]) -> usize {
        self.out.extend_from_slice(&self.raw[self.taken..from]);
        self.out.extend_from_slice(by);
        self.taken = to;
        to
    }

    /// Goes through a string from behind its quotation mark to behind the other one.
    fn string(&mut self, mut at: usize) -> usize {
        loop {
            // 0xed is where a surrogate begins that was encoded by itself.
            let Some(step) = memchr3(b'"', b'\\', 0xed, &self.raw[at.min(self.raw.len())..]) else {
                return self.raw.len();
            };
            at += step;
            at = match self.raw[at] {
                b'"' => return at + 1,
                b'\\' => self.escape(at),
                _ if matches!(self.raw.get(at + 1..at + 3), Some([0xa0..=0xbf, 0x80..=0xbf])) => {
                    self.repairs.surrogates += 1;
                    self.replace(at, at + 3, "\u{fffd}".as_bytes())
                }
                _ => at + 1,
            };
        }
    }

    fn escape(&mut self, at: usize) -> usize {
        match self.unit(at) {
            Some(0xd800..=0xdbff) if matches!(self.unit(at + 6), Some(0xdc00..=0xdfff)) => at + 12,
            Some(0xd800..=0xdfff) => {
                self.repairs.surrogates += 1;
                self.replace(at, at + 6, b"\\ufffd")
            }
            Some(_) => at + 6,
            None => at + 2,
        }
    }

    /// The UTF-16 unit of an escape `\uXXXX`.
    fn unit(&self, at: usize) -> Option<u16> {
        let digits = self.raw.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let digits = std::str::from_utf8(digits).ok()?;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
        u16::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self, at: usize) -> usize {
        let rest = &self.raw[at..];
        let words: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
        if let Some(word) = words.into_iter().find(|word| rest.starts_with(word)) {
            self.repairs.not_numbers += 1;
            return self.replace(at, at + word.len(), b"null");
        }
        let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.iter().take_while(is_part).count().max(1);
        let digits = &rest[..length.min(rest.len())];
        let may_be_too_large =
            length > SURELY_FINITE || digits.iter().any(|byte| matches!(byte, b'e' | b'E'));
        let number = std::str::from_utf8(digits).ok().filter(|_| may_be_too_large);
        if number.and_then(|digits| digits.parse().ok()).is_some_and(f64::is_infinite) {
            self.repairs.not_numbers += 1;
            return self.replace(at, at + length, b"null");
        }
        at + length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(raw: &str) -> String {
        repaired(raw.as_bytes()).map_or_else(|| raw.to_owned(), |(text, _)| String::from_utf8(text).unwrap())
    }

    #[test]
    fn what_python_writes_becomes_json() {
        for (python, expected) in [
            (r#""half \ud835 pair""#, r#""half \ufffd pair""#),
            (r#""\udce9\ud835\ud835\udd38""#, r#""\ufffd\ufffd\ud835\udd38""#),
            (r#"{"a": NaN, "b": [Infinity, -Infinity, -1]}"#, r#"{"a": null, "b": [null, null, -1]}"#),
            (
                r#"["NaN", "-Infinity \\ud835", 1e999, -1e999, 1e300]"#,
                r#"["NaN", "-Infinity \\ud835", null, null, 1e300]"#,
            ),
        ] {
            assert_eq!(text(python), expected);
            serde_json::from_str::<Value>(expected).unwrap();
        }
        let huge = format!("[{}, {}]", "9".repeat(400), "9".repeat(40));
        assert_eq!(text(&huge), format!("[null, {}]", "9".repeat(40)));
        let encoded = [b"\"".as_slice(), &[0xed, 0xa0, 0xb5], "한".as_bytes(), b"\""].concat();
        assert_eq!(from_slice::<String>(&encoded).unwrap(), "\u{fffd}한");
    }

    #[test]
    fn what_is_nested_too_deeply_is_null_and_the_rest_stays() {
        let nested = |depth: usize| format!(r#"{{"a":{}1{},"b":2}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(text(&nested(126)), nested(126));
        let (value, repairs): (Value, _) = {
            let (text, repairs) = repaired(nested(100_000).as_bytes()).unwrap();
            (serde_json::from_slice(&text).unwrap(), repairs)
        };
        assert_eq!((&value["b"], repairs.too_deep), (&json!(2), 1));
    }

    #[test]
    fn of_a_doubled_name_the_last_value_counts() {
        #[derive(serde::Deserialize)]
        struct Named {
            text: String,
        }
        let read: Named = from_slice(br#"{"text": "one", "text": "two", "x": NaN}"#).unwrap();
        assert_eq!(read.text, "two");
    }

    #[test]
    fn repairs_say_what_was_found() {
        let (_, repairs) = repaired(br#"["\ud835", NaN, Infinity]"#).unwrap();
        let said =
            "1 x half surrogate pair (read as U+FFFD), 2 x NaN, Infinity or too large number (read as null)";
        assert_eq!(repairs.to_string(), said);
    }

    #[test]
    fn what_python_does_not_read_either_stays_an_error() {
        for broken in ["{", "[1 2]", "nan", "[tru]", "\"a\nb\"", "[NaNa]", r#"["\ud8"]"#] {
            assert!(from_slice::<Value>(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn json_has_nothing_to_repair(value in "[\\PC\\ud7ff\\\\\"]{0,20}", number in any::<f64>()) {
            let raw = serde_json::to_vec(&json!({"a": [value, number], &value: null})).unwrap();
            prop_assert_eq!(repaired(&raw), None);
        }

        #[test]
        fn any_bytes_are_gone_through(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some((text, repairs)) = repaired(&bytes) {
                prop_assert!(repairs.any() && repaired(&text).is_none());
            }
        }

        #[test]
        fn strings_of_any_units_are_read(units in prop::collection::vec(any::<u16>(), 0..12)) {
            let escapes: Vec<_> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let read: String = from_slice(format!("\"{}\"", escapes.concat()).as_bytes()).unwrap();
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }
    }
}
