//! The request headers of a file in a job's input.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::address::shortened;
use super::error::DownloadError;

/// The maximum number of headers of one file.
const MOST: usize = 32;
/// The maximum length of a name in errors, in bytes.
const LONGEST_SHOWN: usize = 60;

/// Headers of the connection and of the transfer, which the client itself sets.
const RESERVED: [&str; 15] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Returns whether downloads refuse a header of this name, which is in lower case.
///
/// This includes all headers for metadata services of clouds. These services answer only to requests with such a
/// header, to protect themselves from URLs that others choose, as the authors of jobs do.
fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.starts_with("proxy-") || name.contains("metadata")
}

/// Adds a header. An error shows the name, but never the value, which may be a secret.
pub(super) fn add(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), DownloadError> {
    let refuse = |problem: &str| DownloadError::Header {
        name: shortened(name, LONGEST_SHOWN),
        problem: problem.to_owned(),
    };
    let parsed = HeaderName::from_bytes(name.as_bytes());
    let parsed = parsed.map_err(|_| refuse("it is not a valid HTTP header name"))?;
    if is_reserved(parsed.as_str()) {
        return Err(refuse("downloads do not allow this header"));
    }
    let value = HeaderValue::from_str(value.trim());
    let mut value =
        value.map_err(|_| refuse("its value contains characters that are not allowed"))?;
    value.set_sensitive(true);
    if headers.len() == MOST && !headers.contains_key(&parsed) {
        return Err(refuse(&format!("a file can have at most {MOST} headers")));
    }
    headers.insert(parsed, value);
    Ok(())
}

/// Adds the headers of the member `headers` in the input.
pub(super) fn add_all(
    headers: &mut HeaderMap,
    given: &Map<String, Value>,
) -> Result<(), DownloadError> {
    for (name, value) in given {
        match value {
            Value::String(value) => add(headers, name, value)?,
            _ => {
                return Err(DownloadError::Header {
                    name: shortened(name, LONGEST_SHOWN),
                    problem: "its value is not a string".to_owned(),
                });
            }
        }
    }
    Ok(())
}
