//! The JSON of a job for its clients, its worker and its webhook.

use bytes::Bytes;
use podwork_protocol::client::StatusResponse;
use podwork_protocol::{JobStatus, RawValue};
use serde::Serialize;

use crate::engine::Record;
use crate::json_text::JsonText;
use crate::store::Stored;

/// The fields before the payloads in the responses of `/status` and `/stream`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    id: &'a str,
    status: JobStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<&'a str>,
}

impl<'a> Head<'a> {
    fn of(job: &'a Record) -> Self {
        Self {
            id: &job.id,
            status: job.status,
            delay_time: job.delay_ms(),
            execution_time: job.execution_ms(),
            worker_id: job.worker.as_deref(),
        }
    }
}

/// Serializes a [`StatusResponse`].
pub(crate) fn status_text(job: &Record, output: Option<&Bytes>) -> JsonText {
    let mut json = JsonText::default();
    json.open_object(&Head::of(job));
    if let Some(output) = output {
        json.text(",\"output\":");
        json.payload(output);
    }
    close(&mut json, job);
    json
}

/// Serializes a [`StreamResponse`](podwork_protocol::client::StreamResponse).
pub(crate) fn stream_text(job: &Stored) -> JsonText {
    let mut json = JsonText::default();
    json.open_object(&Head {
        worker_id: None,
        ..Head::of(&job.record)
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
    close(&mut json, &job.record);
    json
}

fn close(json: &mut JsonText, job: &Record) {
    if let Some(error) = &job.error {
        json.text(",\"error\":");
        json.text(error);
    }
    json.text("}");
}

/// Appends the JSON of a job that its worker receives.
pub(crate) fn add_job(json: &mut JsonText, job: &Stored) {
    json.text("{\"id\":");
    json.value(&&*job.record.id);
    json.text(",\"input\":");
    json.payload(&job.input);
    json.payload(&job.extra);
    json.text("}");
}

/// Returns the status of a job, with its output.
pub(crate) fn status(job: &Stored) -> StatusResponse {
    let record = &job.record;
    let mut status = StatusResponse::new(&*record.id, record.status);
    status.delay_time = record.delay_ms();
    status.execution_time = record.execution_ms();
    status.worker_id = record.worker.as_deref().map(ToOwned::to_owned);
    status.output = job.output.as_ref().map(raw);
    // The record stores it as JSON text.
    let error = record.error.as_deref();
    status.error = error.and_then(|error| serde_json::from_str(error).ok());
    status
}

/// Returns a payload as an owned JSON value.
pub(crate) fn raw(payload: &Bytes) -> Box<RawValue> {
    // Payloads were parsed as JSON on arrival, so this does not fail; if it ever does, the value is `null`.
    serde_json::from_slice(payload).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
