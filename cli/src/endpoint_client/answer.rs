//! Answers of an endpoint: their bodies, and what they say about a failure.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;

/// The largest answer that is read, in bytes. It is far above the platform's limits on results and on buffered chunks.
pub(super) const MAX_ANSWER: usize = 256 << 20;

/// The length at which the text of an error is cut, in characters.
const MAX_TEXT: usize = 300;

/// An answer with an error status.
#[derive(Debug)]
pub(crate) struct RefusedCall {
    pub(super) status: StatusCode,
    text: String,
}

impl RefusedCall {
    /// Describes the answer of `endpoint`, and how to fix the error.
    pub(super) fn new(
        endpoint: &impl fmt::Display,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Self {
        let mut text = format!("{endpoint} answered {status}");
        let reason = reason(body);
        if !reason.is_empty() {
            text = format!("{text}: {reason}");
        }
        match status {
            // The local platform names the option that allows the call.
            StatusCode::FORBIDDEN if text.contains("--allow-") => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                text.push_str("; set RUNPOD_API_KEY to the endpoint's API key");
            }
            StatusCode::NOT_FOUND => {
                text.push_str("; check the endpoint's address; the job may have expired");
            }
            status if status.is_redirection() => {
                let to = headers.get(LOCATION).and_then(|to| to.to_str().ok());
                let to = to.unwrap_or("an unnamed address");
                text =
                    format!("{text}, a redirect to {to}; pass the final address with --endpoint");
            }
            _ => {}
        }
        if let Some(after) = retry_after(headers) {
            text = format!("{text}; retry after {} s", after.as_secs());
        }
        Self { status, text }
    }

    /// Returns whether the endpoint does not know the job or the address.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// Returns whether the endpoint was too busy to handle the call, so that it had no effect.
    pub(super) fn is_busy(&self) -> bool {
        matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        )
    }

    /// Returns whether a retry may succeed.
    pub(super) fn is_transient(&self) -> bool {
        self.is_busy()
            || self.status == StatusCode::REQUEST_TIMEOUT
            || self.status.is_server_error()
    }
}

impl fmt::Display for RefusedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for RefusedCall {}

/// Reads a body of at most `limit` bytes, and counts them as `received`. Returns `None` if it is larger.
pub(super) async fn body(
    mut response: Response,
    limit: usize,
    received: &AtomicUsize,
) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        if part.len() > limit - body.len() {
            return Ok(None);
        }
        received.fetch_add(part.len(), Ordering::Relaxed);
        body.extend_from_slice(&part);
    }
    Ok(Some(body))
}

/// Returns the delay of a `Retry-After` header, in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Returns what the body of an error says, in one short line. It may be JSON, a proxy's HTML page or text.
pub(super) fn reason(body: &[u8]) -> String {
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let said = ["error", "message", "detail"]
            .iter()
            .find_map(|name| value.get(name).filter(|said| !said.is_null()))
            .unwrap_or(&value);
        return line(
            &said
                .as_str()
                .map_or_else(|| said.to_string(), ToOwned::to_owned),
        );
    }
    let text = String::from_utf8_lossy(body);
    if !text.trim_start().starts_with('<') {
        return line(&text);
    }
    match title(&text) {
        Some(title) => format!("an HTML page, `{title}`"),
        None => "an HTML page".to_owned(),
    }
}

/// Returns the title of an HTML page.
fn title(page: &str) -> Option<String> {
    let lower = page.to_ascii_lowercase();
    let tag = lower.find("<title")?;
    let start = tag + lower[tag..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let title = line(&page[start..end]);
    (!title.is_empty()).then_some(title)
}

/// Returns a text in one line without control characters, cut to a length that fits into a message.
fn line(text: &str) -> String {
    // Each character may become a space; a long text is cut before it is joined.
    let start: String = text
        .chars()
        .take(4 * MAX_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let line = start.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        let page =
            "<!DOCTYPE html>\n<html><head><Title>\n 502 Bad\n Gateway</title></head><body>…</body>";
        for (body, expected) in [
            ("", ""),
            (r#"{"error": "no such job"}"#, "no such job"),
            (r#"{"error": {"code": 3}}"#, r#"{"code":3}"#),
            (r#"{"error": null, "message": "busy"}"#, "busy"),
            (r#"{"detail": "Not Found"}"#, "Not Found"),
            (r#"["odd"]"#, r#"["odd"]"#),
            ("Bad\ngateway\u{1b}[2J\n", "Bad gateway [2J"),
            (page, "an HTML page, `502 Bad Gateway`"),
            ("\n<html><title></title>", "an HTML page"),
        ] {
            assert_eq!(reason(body.as_bytes()), expected, "{body}");
        }
        let long = reason("é".repeat(100_000).as_bytes());
        assert_eq!(long.chars().count(), MAX_TEXT + 2);
        assert_eq!(reason(&[0xff, 0xfe]), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |value: &str| {
            retry_after(&HeaderMap::from_iter([(
                RETRY_AFTER,
                value.parse().unwrap(),
            )]))
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("0"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_mins(5));
        let wait = after(&date).unwrap();
        assert!(wait > Duration::from_mins(4) && wait <= Duration::from_mins(5));
    }
}
