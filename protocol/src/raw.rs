//! Functions that read members of requests more strictly than derived implementations, and members of responses more
//! tolerantly.

use std::fmt;

use serde::de::value::{Error as ValueError, StringDeserializer};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use crate::JobStatus;

/// Reads a member that is present as `Some`, even if it is `null`: `{"output":null}` contains a result, and `{}` does
/// not. For `#[serde(default, deserialize_with = …)]`.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a struct from an object only. A derived implementation also accepts an array of its values.
pub(crate) fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        value @ Value::Object(_) => value,
        other => {
            let name = std::any::type_name::<T>();
            let name = name.rsplit("::").next().unwrap_or(name);
            // The value itself may be too large for a message.
            let kind = Unexpected::Other(match other {
                Value::Array(_) => "list",
                Value::String(_) => "string",
                _ => "number or boolean",
            });
            return Err(D::Error::invalid_type(kind, &&*format!("struct {name}")));
        }
    };
    T::deserialize(value).map(Some).map_err(D::Error::custom)
}

/// Reads an object as raw JSON text.
pub(crate) fn raw_object<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    let value = Option::<Box<RawValue>>::deserialize(deserializer)?;
    if value
        .as_ref()
        .is_some_and(|value| !value.get().starts_with('{'))
    {
        let kind = Unexpected::Other("list, string, number or boolean");
        return Err(D::Error::invalid_type(kind, &"an object"));
    }
    Ok(value)
}

/// Reads a whole number. JSON may also contain it as `5000.0`.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<Number>::deserialize(deserializer)?;
    let whole = number.map(|number| {
        // `to_string` formats `5000.0` as `5000`.
        let float = number
            .as_f64()
            .and_then(|float| float.to_string().parse().ok());
        number.as_u64().or(float).ok_or_else(|| {
            D::Error::custom(format!("`{number}` is not a whole number of 0 or more"))
        })
    });
    whole.transpose()
}

/// Reads a member that a client can do without: a value of another type, or one that is valid JSON but cannot be
/// represented, such as `1e400`, is read as the default.
pub(crate) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

/// Reads a time in milliseconds, and rounds a fraction. A value of another type or out of range is read as `None`.
pub(crate) fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value: Value = lenient(deserializer)?;
    Ok(rounded(&value))
}

/// Reads a number, and rounds a fraction. A value of another type is read as 0.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    millis(deserializer).map(Option::unwrap_or_default)
}

fn rounded(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let float = value.as_f64()?.round().max(0.0);
        // `to_string` formats a whole float without a point.
        float.to_string().parse().ok()
    })
}

/// Reads a status. Platforms may add words: one that is unknown is not final, so it is read as `IN_PROGRESS`.
pub(crate) fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobStatus, D::Error> {
    let word = String::deserialize(deserializer)?;
    let word: StringDeserializer<ValueError> = word.into_deserializer();
    Ok(JobStatus::deserialize(word).unwrap_or(JobStatus::InProgress))
}

/// Reads a status that a client can do without: any value that is no known word is read as `IN_PROGRESS`.
pub(crate) fn lenient_status<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<JobStatus, D::Error> {
    lenient(deserializer).map(|status: Option<_>| status.unwrap_or(JobStatus::InProgress))
}

/// Reads an id. A number is read as its digits.
pub(crate) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    if raw
        .get()
        .starts_with(|c: char| c == '-' || c.is_ascii_digit())
    {
        return Ok(raw.get().to_owned());
    }
    serde_json::from_str(raw.get()).map_err(D::Error::custom)
}

/// Reads a value that is shown to people. In a string, lone surrogates are replaced; another value that cannot be
/// represented is read as its JSON text.
pub(crate) fn shown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let Some(raw) = Option::<Box<RawValue>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let value = serde_json::from_str(raw.get()).unwrap_or_else(|_| {
        let text = serde_json::Deserializer::from_str(raw.get()).deserialize_bytes(LossyText);
        Value::String(text.unwrap_or_else(|_| raw.get().to_owned()))
    });
    Ok(Some(value))
}

/// Reads a string that may contain lone surrogates.
struct LossyText;

impl Visitor<'_> for LossyText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Reads the chunks of a stream, unchanged. A value of another type is read as an empty list.
pub(crate) fn chunks<'de, D: Deserializer<'de>, T: DeserializeOwned + From<Box<RawValue>>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let list = Box::<RawValue>::deserialize(deserializer)?;
    let list: Vec<Box<RawValue>> = serde_json::from_str(list.get()).unwrap_or_default();
    let chunk = |raw: Box<RawValue>| {
        // A chunk without the usual object around it is still a chunk.
        serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.into())
    };
    Ok(list.into_iter().map(chunk).collect())
}

#[cfg(test)]
mod tests {
    use crate::client::RunRequest;

    fn timeout(text: &str) -> Result<Option<u64>, String> {
        let body = format!(r#"{{"input": 1, "policy": {{"executionTimeout": {text}}}}}"#);
        let request: RunRequest = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        Ok(request.policy.unwrap().execution_timeout)
    }

    #[test]
    fn json_objects_are_kept_as_written() {
        let s3_config = |text: &str| {
            let body = format!(r#"{{"input": 1, "s3Config": {text}}}"#);
            let request = serde_json::from_str::<RunRequest>(&body);
            request.map(|request| request.s3_config.map(|config| config.get().to_owned()))
        };
        let text = r#"{"b": 5400121572116418999000, "a": 1.0}"#;
        assert_eq!(s3_config(text).unwrap().as_deref(), Some(text));
        assert_eq!(s3_config("null").unwrap(), None);
        for bad in ["[]", "1", "\"{}\""] {
            let error = s3_config(bad).unwrap_err().to_string();
            assert!(error.contains("expected an object"), "{error}");
        }
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_decimal_point() {
        assert_eq!(timeout("5000"), Ok(Some(5000)));
        assert_eq!(timeout("5000.0"), Ok(Some(5000)));
        assert_eq!(timeout("5e3"), Ok(Some(5000)));
        assert_eq!(timeout("null"), Ok(None));
        assert_eq!(timeout("18446744073709551615"), Ok(Some(u64::MAX)));
        for bad in ["-1", "0.5", "1e300", "\"5000\""] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
