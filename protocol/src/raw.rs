//! Optional members that a derive alone would read too loosely.

use serde::de::{DeserializeOwned, Error as _, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

/// For `#[serde(default, deserialize_with = …)]`: a member that is there is `Some`, even when it is `null`, since
/// `{"output":null}` is a result and `{}` is none.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// … a struct written as an object: a derive alone also takes a list of its values.
pub(crate) fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        value @ Value::Object(_) => value,
        other => {
            let name = std::any::type_name::<T>();
            let name = name.rsplit("::").next().unwrap_or(name);
            // Not the value itself, which may be large.
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

/// … a whole number, which in JSON may be written `5000.0`, too.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<Number>::deserialize(deserializer)?;
    let whole = number.map(|number| {
        // `5000.0` is shown as `5000`.
        let float = number
            .as_f64()
            .and_then(|float| float.to_string().parse().ok());
        number
            .as_u64()
            .or(float)
            .ok_or_else(|| D::Error::custom(format!("`{number}` is not a whole number from 0 on")))
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
