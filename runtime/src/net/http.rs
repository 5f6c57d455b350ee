//! The rules that all HTTP clients share: retryable statuses, `Retry-After`, and error messages with their causes.

use std::error::Error as StdError;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};

/// Returns whether a call to the platform may succeed later. This includes redirects that were not followed, since
/// their target may change.
pub(crate) fn is_retryable_call(status: StatusCode) -> bool {
    !status.is_client_error() || is_retryable_client_error(status)
}

/// Returns whether a download may succeed later.
#[cfg(feature = "download")]
pub(crate) fn is_retryable_download(status: StatusCode) -> bool {
    status.is_server_error() || is_retryable_client_error(status)
}

/// Returns whether a client error is only temporary.
fn is_retryable_client_error(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Returns the delay of a `Retry-After` header in seconds. The form with a date is not supported.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// Returns the message of an error, followed by its causes.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        why = format!("{why}: {deeper}");
        cause = deeper.source();
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_seconds() {
        let headers =
            |value: &'static str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        assert_eq!(retry_after(&headers("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("Wed, 21 Oct 2026 07:28:00 GMT")), None);
    }

    #[test]
    fn transient_failures_are_retried() {
        let status = |code| StatusCode::from_u16(code).unwrap();
        for code in [408, 425, 429, 500, 502, 503, 504, 302] {
            assert!(is_retryable_call(status(code)), "{code}");
        }
        for code in [400, 401, 403, 404, 409, 410, 413, 422] {
            assert!(!is_retryable_call(status(code)), "{code}");
        }
    }

    #[cfg(feature = "download")]
    #[test]
    fn downloads_are_retried_unless_the_response_is_final() {
        let status = |code| StatusCode::from_u16(code).unwrap();
        for code in [408, 425, 429, 500, 502, 503, 504] {
            assert!(is_retryable_download(status(code)), "{code}");
        }
        for code in [204, 206, 304, 400, 401, 403, 404, 410, 416] {
            assert!(!is_retryable_download(status(code)), "{code}");
        }
    }
}
