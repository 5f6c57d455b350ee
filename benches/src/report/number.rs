//! Formatting of numbers with three significant digits.

/// Formats a number, with commas as thousands separators.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let mut digits = 0;
    let mut shown = size;
    while shown > 0.0 && shown < 99.95 && digits < 6 {
        shown *= 10.0;
        digits += 1;
    }
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, whole) = whole.split_at(whole.len() - whole.trim_start_matches('-').len());
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

/// Formats bytes as megabytes.
pub(crate) fn megabytes(bytes: f64) -> String {
    format!("{} MB", number(bytes / 1e6))
}

/// Formats seconds in a suitable unit.
pub(crate) fn time(seconds: f64) -> String {
    match seconds.abs() {
        size if size >= 0.9995 => format!("{} s", number(seconds)),
        size if size >= 0.000_999_5 => format!("{} ms", number(seconds * 1e3)),
        _ => format!("{:.0} µs", seconds * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_digits() {
        let texts = [
            1_234_567.8,
            999.6,
            99.96,
            12.34,
            1.0,
            0.012_345,
            0.0,
            -1234.5,
        ]
        .map(number);
        assert_eq!(
            texts,
            [
                "1,234,568",
                "1,000",
                "100",
                "12.3",
                "1.00",
                "0.0123",
                "0",
                "-1,234"
            ]
        );
    }

    #[test]
    fn units_fit_their_values() {
        assert_eq!(time(1.5), "1.50 s");
        assert_eq!(time(0.02), "20.0 ms");
        assert_eq!(time(-0.000_05), "-50 µs");
        assert_eq!(megabytes(5_500_000.0), "5.50 MB");
    }
}
