//! Validation of a client's request.

use std::time::Duration;

use bytes::Bytes;
use podwork_protocol::RawValue;
use podwork_protocol::client::{Policy, RunRequest};
use podwork_protocol::limits;
use serde::Serialize;
use uuid::Uuid;

use crate::engine::{Refusal, Submission};
use crate::rules::{Rules, Span};

/// The members of a job for its worker besides its id and its input.
#[derive(Serialize)]
struct Further<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
    #[serde(rename = "s3Config", skip_serializing_if = "Option::is_none")]
    s3_config: Option<&'a RawValue>,
}

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
    let id = Uuid::new_v4();
    Ok(Submission {
        id: if sync {
            format!("{}{id}", limits::SYNC_ID_PREFIX).into()
        } else {
            id.to_string().into()
        },
        extra: members(&Further {
            webhook: request.webhook.as_deref(),
            policy: request.policy.filter(|policy| *policy != Policy::default()),
            s3_config: request.s3_config.as_deref(),
        }),
        input: payload(request.input),
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
fn members(object: &Further<'_>) -> Bytes {
    // A struct of strings, numbers and raw JSON always serializes.
    let text = serde_json::to_string(object).unwrap_or_default();
    match text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
    {
        None | Some("") => Bytes::new(),
        Some(members) => format!(",{members}").into(),
    }
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
