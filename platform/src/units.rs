//! Parsing of sizes and durations.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Parses a duration: `250ms`, `1.5s`, `2m`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = parts(text);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

/// Parses a range of durations, such as `20ms..1.5s`. A single duration stands for both bounds.
pub(crate) fn durations(text: &str) -> Option<RangeInclusive<Duration>> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let (least, most) = (duration(least)?, duration(most)?);
    (least <= most).then_some(least..=most)
}

/// Parses a size in bytes: `500`, `64KB`, `10MB`, `1GB`. The units are powers of 1024, as in Runpod's limits.
pub(crate) fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = parts(text);
    let scale = match unit {
        "" | "B" => 1,
        "KB" | "KiB" => 1 << 10,
        "MB" | "MiB" => 1 << 20,
        "GB" | "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(scale)
}

fn parts(text: &str) -> (&str, &str) {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    (number, &text[number.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read() {
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("7d"), Some(Duration::from_hours(168)));
        assert_eq!(bytes("10MB"), Some(10 * 1024 * 1024));
        assert_eq!(bytes("7"), Some(7));
        for bad in ["", "5", "s", "-1s", "1e400s", "NaNs", "1 s", "1w"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        for bad in [
            "",
            "KB",
            "1.5KB",
            "-1",
            "99999999999999999999",
            "9999999999999GB",
        ] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
        assert_eq!(durations("2s..1s"), None);
    }
}
