//! Functions that read optional members more strictly than derived implementations.

use serde::de::{DeserializeOwned, Error as _, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

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

#[cfg(test)]
mod tests {
    use crate::client::RunRequest;

    fn timeout(text: &str) -> Result<Option<u64>, String> {
        let body = format!(r#"{{"input": 1, "policy": {{"executionTimeout": {text}}}}}"#);
        let request: RunRequest = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        Ok(request.policy.unwrap().execution_timeout)
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
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
