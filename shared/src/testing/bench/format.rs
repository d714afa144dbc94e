//! Numbers as a report shows them (PURE).

/// Three or more digits that say something, thousands apart.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 || value.fract() == 0.0 {
        return grouped(&format!("{value:.0}"));
    }
    let decimals = if magnitude >= 10.0 {
        1
    } else if magnitude >= 0.01 {
        3
    } else {
        5
    };
    format!("{value:.decimals$}")
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent.abs() >= 10.0 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut grouped = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_still_tell_the_difference() {
        let shown = [1_234_567.0, 999.6, 42.0, 42.04, 1.2345, 0.001_234, -1234.0, 0.0].map(number);
        assert_eq!(shown, ["1,234,567", "1,000", "42", "42.0", "1.234", "0.00123", "-1,234", "0"]);
        assert_eq!([0.7, 0.0312, 1.5].map(percent), ["70 %", "3.1 %", "150 %"]);
    }
}
