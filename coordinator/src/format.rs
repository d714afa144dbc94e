//! Figures and names as people read them (PURE).

/// A duration such as `1 h 05 min`, `3 min 20 s` or `12 s`.
pub(crate) fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    let seconds = seconds.clamp(0.0, 1e9).round() as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {:02} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes:02} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// A count with thousands apart, such as `12 345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A measured number without its fraction, grouped like [`count`].
pub(crate) fn rounded(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    let whole = number.clamp(0.0, 1e18).round() as u64;
    count(whole)
}

/// Tokens per second, in whole numbers.
pub(crate) fn token_rate(per_second: f64) -> String {
    let whole = format!("{per_second:.0}");
    // Figures that are no number stay as they are written.
    let grouped = whole.parse().map_or_else(|_| whole.clone(), count);
    format!("{grouped} tokens/s")
}

/// A number of things, such as `1 chunk` or `12 345 chunks`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A bar of `width` characters such as `=====>    `.
pub(crate) fn bar(done: u64, total: u64, width: usize) -> String {
    let part = if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the width")]
    let filled = (part * width as f64) as usize;
    let head = if filled < width { ">" } else { "" };
    format!("{:<width$}", format!("{}{head}", "=".repeat(filled)))
}

/// Foreign texts for people.
pub(crate) use qa_shared::plain::{line, text};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        assert_eq!(duration(12.4), "12 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(3900.0), "1 h 05 min");
        assert_eq!(duration(200_000.0), "2 d 7 h");
        assert_eq!(duration(f64::NAN), "0 s");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(counted(1, "chunk"), "1 chunk");
        assert_eq!(counted(2000, "pair"), "2 000 pairs");
    }

    #[test]
    fn bars_fill_up() {
        assert_eq!(bar(0, 4, 4), ">   ");
        assert_eq!(bar(2, 4, 4), "==> ");
        assert_eq!(bar(4, 4, 4), "====");
        assert_eq!(bar(9, 4, 4), "====");
        assert_eq!(bar(0, 0, 4), "====");
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(line("a\x1b[2J\nb", 20), "a [2J b");
        assert_eq!(line("überlang", 5), "über…");
    }
}
