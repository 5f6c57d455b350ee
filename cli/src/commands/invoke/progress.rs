//! The completed share of a job, read from its progress.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Reads how far a job is from its updates, by the rule of the platform's console.
#[derive(Debug, Default)]
pub(super) struct JobProgress {
    /// An earlier update was a fraction, so that a bare 1 is one as well.
    in_fractions: AtomicBool,
}

impl JobProgress {
    /// Returns a share between 0 and 1. It is read from a number or a text with `%`, from an object's `percent` or
    /// `percentage`, from its `progress`, or from its first number divided by `of` or `total`.
    pub(super) fn share(&self, progress: &str) -> Option<f64> {
        let entries = match serde_json::from_str(progress).ok()? {
            ProgressValue::Other(value) => return self.number(&value),
            ProgressValue::Object(entries) => entries,
        };
        let get = |wanted: &str| {
            let found = entries
                .iter()
                .find(|(name, value)| name == wanted && !value.is_null());
            found.map(|(_, value)| value)
        };
        if let Some(value) = get("percent").or_else(|| get("percentage")) {
            return of_text(value).or_else(|| of_percent(value.as_f64()?));
        }
        if let Some(value) = get("progress") {
            return self.number(value);
        }
        let of = get("of")
            .or_else(|| get("total"))?
            .as_f64()
            .filter(|of| *of > 0.0)?;
        let done = entries
            .iter()
            .filter(|(name, _)| name != "of" && name != "total")
            .find_map(|(_, value)| value.as_f64())?;
        Some((done / of).clamp(0.0, 1.0))
    }

    /// Reads a bare number. Up to 1 it is a fraction, and above it a percentage. A 1 without a decimal point is one
    /// percent, unless fractions came before it: JSON of other languages writes 1.0 so.
    fn number(&self, value: &Value) -> Option<f64> {
        if value.is_string() {
            return of_text(value);
        }
        let number = value.as_f64().filter(|number| *number >= 0.0)?;
        if number < 1.0 {
            self.in_fractions.fetch_or(number > 0.0, Ordering::Relaxed);
            return Some(number);
        }
        let follows_fractions = || self.in_fractions.load(Ordering::Relaxed);
        if number <= 1.0 && (value.is_f64() || follows_fractions()) {
            return Some(1.0);
        }
        of_percent(number)
    }
}

/// Reads a text such as `40 %`.
fn of_text(value: &Value) -> Option<f64> {
    let percent = value.as_str()?.trim().strip_suffix('%')?;
    of_percent(percent.trim_end().parse().ok()?)
}

fn of_percent(percent: f64) -> Option<f64> {
    (percent >= 0.0).then(|| (percent / 100.0).min(1.0))
}

/// A progress value whose entries keep their order, because the first number counts.
enum ProgressValue {
    Object(Vec<(String, Value)>),
    Other(Value),
}

impl<'de> Deserialize<'de> for ProgressValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = ProgressValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a progress value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProgressValue, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(ProgressValue::Object(entries))
            }

            fn visit_str<E>(self, text: &str) -> Result<ProgressValue, E> {
                Ok(ProgressValue::Other(text.into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<ProgressValue, E> {
                Ok(ProgressValue::Other(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<ProgressValue, E> {
                Ok(ProgressValue::Other(number.into()))
            }
        }

        deserializer.deserialize_any(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_percent_like_the_console() {
        let shares = [
            ("50", Some(0.5)),
            ("0.5", Some(0.5)),
            ("0", Some(0.0)),
            ("1", Some(0.01)),
            ("250", Some(1.0)),
            ("-1", None),
            ("null", None),
            ("true", None),
            ("[1, 2]", None),
            (r#""40 %""#, Some(0.4)),
            (r#""loading""#, None),
            ("1.0", Some(1.0)),
            ("1e0", Some(1.0)),
            ("1.5", Some(0.015)),
            (r#"{"percent": 25}"#, Some(0.25)),
            (r#"{"percent": 0.5}"#, Some(0.005)),
            (r#"{"percent": 1.0}"#, Some(0.01)),
            (r#"{"percent": 100.0}"#, Some(1.0)),
            (r#"{"percent": "30 %"}"#, Some(0.3)),
            (r#"{"percent": "most"}"#, None),
            (r#"{"percentage": -1}"#, None),
            (r#"{"progress": 0.5}"#, Some(0.5)),
            (r#"{"progress": 1.0}"#, Some(1.0)),
            (r#"{"percent": null, "percentage": 75}"#, Some(0.75)),
            (r#"{"progress": "10%"}"#, Some(0.1)),
            (r#"{"tokens": 3, "of": 4}"#, Some(0.75)),
            (r#"{"total": 10, "step": 5, "at": 9}"#, Some(0.5)),
            (r#"{"step": 12, "total": 10}"#, Some(1.0)),
            (r#"{"step": 1, "total": 0}"#, None),
            (r#"{"step": 1}"#, None),
        ];
        for (progress, expected) in shares {
            let share = JobProgress::default().share(progress);
            assert_eq!(share, expected, "{progress}");
        }
    }

    #[test]
    fn after_fractions_a_progress_of_1_is_100_percent() {
        let shares = |updates: &[&str]| {
            let progress = JobProgress::default();
            let share = |update: &&str| progress.share(update).unwrap();
            updates.iter().map(share).collect::<Vec<f64>>()
        };
        assert_eq!(shares(&["0.5", "0.9", "1"]), [0.5, 0.9, 1.0]);
        assert_eq!(shares(&["0", "1", "2", "100"]), [0.0, 0.01, 0.02, 1.0]);
        let objects = [r#"{"progress": 0.9}"#, r#"{"progress": 1}"#];
        assert_eq!(shares(&objects), [0.9, 1.0]);
        assert_eq!(shares(&[r#"{"percent": 0.5}"#, "1"]), [0.005, 0.01]);
    }
}
