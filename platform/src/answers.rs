//! The JSON of a job for its clients, its worker and its webhook.

use bytes::Bytes;
use podwork_protocol::client::StatusResponse;
use podwork_protocol::{JobStatus, RawValue};
use serde::Serialize;

use crate::engine::{Record, WebhookCall};
use crate::json_text::JsonText;
use crate::rules::Rules;
use crate::store::Stored;

/// The fields before the payloads in the responses of `/status` and `/stream`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<&'a str>,
}

impl<'a> Head<'a> {
    fn of(job: &'a Record, rules: &'a Rules) -> Self {
        Self {
            id: &job.id,
            status: word(job, rules),
            delay_time: job.delay_ms(),
            execution_time: job.execution_ms(),
            retries: job.retries(),
            worker_id: job.worker.as_deref(),
        }
    }
}

/// Returns the status word that clients see.
fn word<'a>(job: &Record, rules: &'a Rules) -> &'a str {
    match job.status {
        JobStatus::InProgress => &rules.running_word,
        status => status.as_str(),
    }
}

/// Serializes a [`JobState`](podwork_protocol::client::JobState).
pub(crate) fn state_text(job: &Record, rules: &Rules) -> JsonText {
    let mut json = JsonText::default();
    json.open_object(&Head {
        delay_time: None,
        execution_time: None,
        retries: None,
        worker_id: None,
        ..Head::of(job, rules)
    });
    json.text("}");
    json
}

/// Serializes a [`StatusResponse`].
pub(crate) fn status_text(job: &Record, output: Option<&Bytes>, rules: &Rules) -> JsonText {
    let mut json = open_status(job, output, rules);
    json.text("}");
    json
}

/// Serializes the body of a webhook call: a [`StatusResponse`] with the input and the webhook of the request.
pub(crate) fn webhook_text(call: &WebhookCall, rules: &Rules) -> JsonText {
    let mut json = open_status(&call.job, call.output.as_ref(), rules);
    json.text(",\"input\":");
    json.payload(&call.input);
    json.text(",\"webhook\":");
    json.value(&&*call.url);
    json.text("}");
    json
}

fn open_status(job: &Record, output: Option<&Bytes>, rules: &Rules) -> JsonText {
    let mut json = JsonText::default();
    json.open_object(&Head::of(job, rules));
    if let Some(output) = output {
        json.text(",\"output\":");
        json.payload(output);
    }
    add_error(&mut json, job);
    json
}

/// Serializes a [`StreamResponse`](podwork_protocol::client::StreamResponse).
pub(crate) fn stream_text(job: &Stored, rules: &Rules) -> JsonText {
    let mut json = JsonText::default();
    json.open_object(&Head {
        retries: None,
        worker_id: None,
        ..Head::of(&job.record, rules)
    });
    json.text(",\"stream\":[");
    for (n, chunk) in job.chunks.iter().enumerate() {
        json.text(if n == 0 {
            "{\"output\":"
        } else {
            ",{\"output\":"
        });
        json.payload(chunk);
        json.text("}");
    }
    json.text("]");
    add_error(&mut json, &job.record);
    json.text("}");
    json
}

fn add_error(json: &mut JsonText, job: &Record) {
    if let Some(error) = &job.error {
        json.text(",\"error\":");
        json.text(error);
    }
}

/// Appends the JSON of a job that its worker receives.
pub(crate) fn add_job(json: &mut JsonText, job: &Stored, rules: &Rules) {
    json.text("{\"id\":");
    json.value(&&*job.record.id);
    if !(rules.strip_empty_input && is_empty_object(&job.input)) {
        json.text(",\"input\":");
        json.payload(&job.input);
    }
    json.payload(&job.extra);
    json.text("}");
}

/// Returns whether JSON text is the empty object, with or without white space.
fn is_empty_object(json: &[u8]) -> bool {
    let inside = json
        .strip_prefix(b"{")
        .and_then(|json| json.strip_suffix(b"}"));
    inside.is_some_and(|inside| inside.iter().all(u8::is_ascii_whitespace))
}

/// Returns the status of a job, with its output.
pub(crate) fn status(job: &Stored) -> StatusResponse {
    let record = &job.record;
    let mut status = StatusResponse::new(&*record.id, record.status);
    status.delay_time = record.delay_ms();
    status.execution_time = record.execution_ms();
    status.retries = record.retries();
    status.worker_id = record.worker.as_deref().map(ToOwned::to_owned);
    status.output = job.output.as_ref().map(raw);
    // The record stores it as JSON text. Text that a `Value` cannot hold, such as `1e400`, stays text.
    let error = record.error.as_deref();
    status.error = error.map(|error| serde_json::from_str(error).unwrap_or_else(|_| error.into()));
    status
}

/// Returns a payload as an owned JSON value.
pub(crate) fn raw(payload: &Bytes) -> Box<RawValue> {
    // Payloads were parsed as JSON on arrival, so this does not fail; if it ever does, the value is `null`.
    serde_json::from_slice(payload).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
