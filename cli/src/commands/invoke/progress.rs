//! The completed share of a job, read from its progress.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Returns a share between 0 and 1, by the rule of the platform's console: it is read from a number or a string with
/// `%`, from an object's `percent`, `percentage` or `progress`, or from its first number divided by `of` or `total`.
pub(super) fn share(progress: &str) -> Option<f64> {
    let entries = match serde_json::from_str(progress).ok()? {
        ProgressValue::Other(value) => return part(&value),
        ProgressValue::Object(entries) => entries,
    };
    let get = |wanted: &str| {
        let found = entries
            .iter()
            .find(|(name, value)| name == wanted && !value.is_null());
        found.map(|(_, value)| value)
    };
    let named = ["percent", "percentage", "progress"];
    if let Some(value) = named.iter().find_map(|name| get(name)) {
        return part(value);
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

fn part(value: &Value) -> Option<f64> {
    if let Some(text) = value.as_str() {
        let percent: f64 = text.trim().strip_suffix('%')?.trim_end().parse().ok()?;
        return (percent >= 0.0).then(|| (percent / 100.0).min(1.0));
    }
    let number = value.as_f64().filter(|number| *number >= 0.0)?;
    Some(if number < 1.0 {
        number
    } else {
        (number / 100.0).min(1.0)
    })
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
    fn the_consoles_rule() {
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
            (r#"{"percent": 25}"#, Some(0.25)),
            (r#"{"percent": null, "percentage": 75}"#, Some(0.75)),
            (r#"{"progress": "10%"}"#, Some(0.1)),
            (r#"{"tokens": 3, "of": 4}"#, Some(0.75)),
            (r#"{"total": 10, "step": 5, "at": 9}"#, Some(0.5)),
            (r#"{"step": 12, "total": 10}"#, Some(1.0)),
            (r#"{"step": 1, "total": 0}"#, None),
            (r#"{"step": 1}"#, None),
        ];
        for (progress, expected) in shares {
            assert_eq!(share(progress), expected, "{progress}");
        }
    }
}
