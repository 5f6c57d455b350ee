//! How an optional member keeps apart `null` and "not there".

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// For `#[serde(default, deserialize_with = …)]`: a member that is there is `Some`, even when it is `null`, since
/// `{"output":null}` is a result and `{}` is none.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}
