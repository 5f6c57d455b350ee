//! From a client's request to a job of an endpoint.

use std::time::Duration;

use podwork_protocol::client::{Policy, RunRequest};
use podwork_protocol::limits;
use serde_json::{Map, json};
use uuid::Uuid;

use crate::core::{Refusal, Submission};
use crate::settings::Settings;

/// What a request asks for, with the platform's defaults and checks.
pub(crate) fn submission_of(
    request: RunRequest,
    sync: bool,
    settings: &Settings,
) -> Result<Submission, Refusal> {
    if let Some(webhook) = &request.webhook {
        check_webhook(webhook)?;
    }
    let policy = request.policy.unwrap_or_default();
    let execution_timeout = within(
        "policy.executionTimeout",
        policy.execution_timeout,
        limits::MIN_EXECUTION_TIMEOUT,
        limits::DEFAULT_EXECUTION_TIMEOUT,
    )?;
    let ttl = within(
        "policy.ttl",
        policy.ttl,
        limits::MIN_TTL,
        limits::DEFAULT_TTL,
    )?;
    let mut extra = Map::new();
    if let Some(webhook) = &request.webhook {
        extra.insert("webhook".to_owned(), json!(webhook));
    }
    if policy != Policy::default() {
        extra.insert("policy".to_owned(), json!(policy));
    }
    if let Some(s3_config) = request.s3_config {
        extra.insert("s3Config".to_owned(), s3_config);
    }
    let id = Uuid::new_v4();
    Ok(Submission {
        id: if sync {
            format!("{}{id}", limits::SYNC_ID_PREFIX)
        } else {
            id.to_string()
        },
        input: request.input,
        extra,
        execution_timeout,
        ttl,
        retention: if sync {
            settings.runsync_retention
        } else {
            settings.run_retention
        },
        webhook: request.webhook,
    })
}

fn check_webhook(webhook: &str) -> Result<(), Refusal> {
    let problem = match reqwest::Url::parse(webhook) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => return Ok(()),
        Ok(url) => format!("`{}` is not http or https", url.scheme()),
        Err(error) => error.to_string(),
    };
    Err(Refusal::Bad(format!("`webhook` is `{webhook}`: {problem}")))
}

fn within(
    name: &str,
    millis: Option<u64>,
    least: Duration,
    default: Duration,
) -> Result<Duration, Refusal> {
    let Some(millis) = millis else {
        return Ok(default);
    };
    let asked = Duration::from_millis(millis);
    if (least..=limits::MAX_POLICY).contains(&asked) {
        return Ok(asked);
    }
    Err(Refusal::Bad(format!(
        "`{name}` is {millis} ms, and must be between {} and {}",
        least.as_millis(),
        limits::MAX_POLICY.as_millis()
    )))
}
