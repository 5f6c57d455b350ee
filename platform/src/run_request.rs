//! Validation of a client's request.

use std::time::Duration;

use bytes::Bytes;
use podwork_protocol::RawValue;
use podwork_protocol::client::{Policy, RunRequest};
use podwork_protocol::limits;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::engine::{Refusal, Submission};
use crate::rules::{Rules, Span};

/// Turns a request into a submission: checks it and applies the endpoint's defaults.
pub(crate) fn submission_of(
    request: RunRequest,
    sync: bool,
    rules: &Rules,
) -> Result<Submission, Refusal> {
    if let Some(webhook) = &request.webhook {
        check_webhook(webhook)?;
    }
    let policy = request.policy.unwrap_or_default();
    let execution_timeout = chosen(
        "policy.executionTimeout",
        policy.execution_timeout,
        &rules.execution_timeout,
    )?;
    let ttl = chosen("policy.ttl", policy.ttl, &rules.ttl)?;
    let mut extra = Map::new();
    if let Some(webhook) = &request.webhook {
        extra.insert("webhook".to_owned(), json!(webhook));
    }
    if policy != Policy::default() {
        extra.insert("policy".to_owned(), json!(policy));
    }
    if let Some(s3_config) = request.s3_config {
        extra.insert("s3Config".to_owned(), Value::Object(s3_config));
    }
    let id = Uuid::new_v4();
    Ok(Submission {
        id: if sync {
            format!("{}{id}", limits::SYNC_ID_PREFIX).into()
        } else {
            id.to_string().into()
        },
        input: payload(request.input),
        extra: members(&extra),
        execution_timeout,
        ttl,
        retention: rules.retention(sync),
        webhook: request.webhook,
    })
}

/// Turns JSON text into a payload without copying it.
pub(crate) fn payload(raw: Box<RawValue>) -> Bytes {
    Box::<str>::from(raw).into_boxed_bytes().into()
}

/// Serializes the members of an object, each preceded by a comma.
pub(crate) fn members(object: &Map<String, Value>) -> Bytes {
    if object.is_empty() {
        return Bytes::new();
    }
    let text = Value::Object(object.clone()).to_string();
    format!(",{}", &text[1..text.len() - 1]).into()
}

fn check_webhook(webhook: &str) -> Result<(), Refusal> {
    let problem = match reqwest::Url::parse(webhook) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => return Ok(()),
        Ok(url) => format!("unsupported scheme `{}`, use http or https", url.scheme()),
        Err(error) => error.to_string(),
    };
    Err(Refusal::Bad(format!(
        "invalid `webhook` URL `{webhook}`: {problem}"
    )))
}

/// Returns the time that the client chose, or the default.
fn chosen(name: &str, millis: Option<u64>, span: &Span) -> Result<Duration, Refusal> {
    let Some(millis) = millis else {
        return Ok(span.default);
    };
    let asked = Duration::from_millis(millis);
    if span.range.contains(&asked) {
        return Ok(asked);
    }
    Err(Refusal::Bad(format!(
        "invalid `{name}`: {millis} ms is not between {} and {} ms",
        span.range.start().as_millis(),
        span.range.end().as_millis()
    )))
}
