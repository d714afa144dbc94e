//! Notations of values: numbers in ranges, durations, yes and no, lists. Pure; no setting is named here.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// Yes or no: true/1/yes/on and false/0/no/off in any case.
pub fn yes_or_no(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// A number within a range, its ends included. Not-a-number is in no range.
pub fn within<T: FromStr + PartialOrd>(range: RangeInclusive<T>) -> impl Fn(&str) -> Option<T> {
    move |text| text.trim().parse().ok().filter(|number| range.contains(number))
}

/// A duration of at most 30 days: seconds, or a whole number with `ms`, `s`, `m` or `h`.
pub fn duration(text: &str) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let milliseconds = match text[digits..].trim_start() {
        "ms" => number,
        "" | "s" => number.checked_mul(1000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(milliseconds)).filter(|duration| *duration <= LONGEST)
}

/// A duration above zero.
pub fn positive_duration(text: &str) -> Option<Duration> {
    duration(text).filter(|duration| !duration.is_zero())
}

/// A number of bytes, perhaps with K, M, G or T (1024 each).
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let power =
        match text[digits..].trim_start().to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
            "" => 0,
            "K" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            _ => return None,
        };
    number.checked_mul(1024_u64.checked_pow(power)?)
}

/// The parts of a list separated by commas, trimmed; empty ones are left out.
pub fn comma_list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Texts as a JSON list, or one text as it is. `None` for what starts like a list and is none.
pub fn text_list(text: &str) -> Option<Vec<String>> {
    let trimmed = text.trim();
    if trimmed.starts_with('[') && trimmed.ends_with(']') {
        serde_json::from_str::<Vec<String>>(trimmed).ok()
    } else if trimmed.starts_with('[') && trimmed.contains('"') {
        None
    } else {
        Some(vec![text.to_owned()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_and_no_have_four_notations_each() {
        for text in ["true", "TRUE", "1", "yes", "On", " true "] {
            assert_eq!(yes_or_no(text), Some(true), "{text}");
        }
        for text in ["false", "0", "No", "OFF"] {
            assert_eq!(yes_or_no(text), Some(false), "{text}");
        }
        for text in ["", "2", "y", "maybe"] {
            assert_eq!(yes_or_no(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, expected) in [
            ("1024", 1024),
            ("500M", 500 << 20),
            ("2G", 2 << 30),
            (" 1 GiB ", 1 << 30),
            ("3kb", 3072),
            ("1T", 1 << 40),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "1P", "99999999999T"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_stay_in_their_range() {
        assert_eq!(within(1..=50)(" 50 "), Some(50));
        assert_eq!(within(1..=50)("51"), None);
        assert_eq!(within(1_u32..=50)("-1"), None);
        assert_eq!(within(0.0..=2.0)("0.7"), Some(0.7));
        for text in ["NaN", "inf", "0,7", "2.01", "-0.1", ""] {
            assert_eq!(within(0.0..=2.0)(text), None, "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, milliseconds) in
            [("30", 30_000), ("30s", 30_000), ("5m", 300_000), ("2 h", 7_200_000), ("250ms", 250), ("0", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "1.5h",
            "5 min",
            "1h30m",
            "99999999999999999999",
            "18446744073709551615h",
            "31d",
            "721h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(positive_duration("0"), None);
    }

    #[test]
    fn stop_texts_are_a_json_list_or_one_text() {
        let list = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        assert_eq!(text_list(r#"["<|im_end|>", "a,b"]"#), list(&["<|im_end|>", "a,b"]));
        assert_eq!(text_list("<|im_end|>"), list(&["<|im_end|>"]));
        assert_eq!(text_list("[INST"), list(&["[INST"]));
        assert_eq!(text_list("[]"), list(&[]));
        assert_eq!(text_list(r#"["a", 1]"#), None);
        assert_eq!(text_list(r#"["a""#), None);
        assert_eq!(text_list("[INST]"), None, "nobody can tell it from a list without quotes");
    }
}
