//! Jobs: as a scripted platform hands them out, and as the local platform runs them.

use podwork_platform::{Platform, StatusResponse};
use serde::Serialize;
use serde_json::{Value, json};

use crate::within_a_minute;

/// Returns the body of a job, as a poll receives it.
///
/// # Panics
/// Panics if the input cannot be serialized.
#[must_use]
pub fn job(id: &str, input: impl Serialize) -> Value {
    json!({"id": id, "input": input})
}

/// Submits a job with this input, and returns its id.
///
/// # Panics
/// Panics if the platform rejects the job.
#[must_use]
pub fn submit(platform: &Platform, input: &Value) -> String {
    let request = serde_json::from_value(json!({ "input": input })).expect("a request");
    platform.submit(request).expect("the platform accepts it")
}

/// Waits until a job has ended, and returns its final status.
///
/// # Panics
/// Panics if the job does not end within a minute.
pub async fn ended(platform: &Platform, id: &str) -> StatusResponse {
    let ended = within_a_minute(platform.ended(id)).await;
    ended.expect("the platform knows the job until it ends")
}
