//! OpenAI error objects: `{"error": {"message": …, "type": …, "param": …, "code": …}}`.

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::Response;
use podwork_protocol::JobStatus;
use serde_json::{Value, json};

use crate::engine::Record;
use crate::routes::failure::FailureText;

/// An error of a route or of a job, and the HTTP status that goes with it.
#[derive(Debug)]
pub(super) struct ErrorObject {
    status: StatusCode,
    error: Value,
}

impl ErrorObject {
    fn new(status: StatusCode, message: &str) -> Self {
        let kind = match status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        Self {
            status,
            error: json!({"message": message, "type": kind, "param": null, "code": null}),
        }
    }

    /// Creates the error of a stream whose worker was lost.
    pub(super) fn lost() -> Self {
        let message = "the worker was lost while it streamed; try again";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Creates the error of a stream whose job was removed, or whose platform shuts down.
    pub(super) fn gone() -> Self {
        let message = "the job was removed, or the platform is shutting down";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// Returns the error of a job that ended without an output.
    pub(super) fn of_failed(job: &Record) -> Option<Self> {
        let failed = |status, message: &str| Some(Self::new(status, message));
        match job.status {
            JobStatus::Failed => Some(Self::of_report(job.error.as_deref().unwrap_or("null"))),
            JobStatus::TimedOut => failed(StatusCode::GATEWAY_TIMEOUT, "the job timed out"),
            JobStatus::Cancelled => failed(StatusCode::CONFLICT, "the job was cancelled"),
            _ => None,
        }
    }

    /// Reads the error that a worker posted, as JSON text: a message, the report of an error, or an OpenAI error object
    /// of the server behind the worker. The latter two may be written as a string.
    fn of_report(error: &str) -> Self {
        let error = nested(serde_json::from_str(error).unwrap_or_default());
        if let Some(object) = Self::of_object(&error) {
            return object;
        }
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let Some(message) = error["error_message"].as_str() else {
            let message = error
                .as_str()
                .map_or_else(|| error.to_string(), str::to_owned);
            return Self::new(status, &message);
        };
        // The message of a report may itself be the server's error object.
        if let Some(object) = Self::of_object(&nested(message.into())) {
            return object;
        }
        let mut object = Self::new(status, message);
        object.error["code"] = error["error_type"].clone();
        object
    }

    /// Reads an OpenAI error object, also in the form of older versions of vLLM. Its `code` or `status` may be an HTTP
    /// status; otherwise the status is 500.
    pub(super) fn of_object(value: &Value) -> Option<Self> {
        let error = match (&value["object"], &value["error"]) {
            (Value::Null, error @ Value::Object(_)) => error,
            (Value::String(object), _) if object == "error" => value,
            _ => return None,
        };
        let members = [
            &error["code"],
            &error["status"],
            &value["status"],
            &value["status_code"],
        ];
        let status = members.into_iter().find_map(http_status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = error["message"]
            .as_str()
            .unwrap_or("the server reported an error");
        let mut object = Self::new(status, message);
        for member in ["type", "param", "code"] {
            if !error[member].is_null() {
                object.error[member] = error[member].clone();
            }
        }
        Some(object)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the body of an answer.
    pub(super) fn body(&self) -> String {
        json!({ "error": self.error }).to_string()
    }

    /// Returns a server-sent event.
    pub(super) fn event(&self) -> String {
        format!("data: {}\n\n", self.body())
    }
}

/// Returns the object that a string has as its text, or the value itself.
fn nested(value: Value) -> Value {
    let inner = value
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok());
    inner.filter(Value::is_object).unwrap_or(value)
}

/// Reads an HTTP status from 400 to 599, as a number or a string.
fn http_status(value: &Value) -> Option<StatusCode> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    let status = StatusCode::from_u16(number.try_into().ok()?).ok()?;
    (status.is_client_error() || status.is_server_error()).then_some(status)
}

/// Turns the error responses of the OpenAI routes into OpenAI error objects, whichever part of the platform they come
/// from. The headers stay.
pub(in crate::routes) async fn convert_errors(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let endpoint = path
        .strip_prefix("/v2/")
        .and_then(|path| path.split_once('/'));
    let route = endpoint.map_or(path.trim_start_matches('/'), |(_, route)| route);
    let converts = route.starts_with("openai/");
    let mut response = next.run(request).await;
    if converts && let Some(FailureText(text)) = response.extensions_mut().remove() {
        let body = ErrorObject::new(response.status(), &text).body();
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = Body::from(body);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(report: &Value, status: u16, expected: Value) {
        let object = ErrorObject::of_report(&report.to_string());
        assert_eq!(object.status, status, "{report}");
        assert_eq!(object.error, expected, "{report}");
    }

    #[test]
    fn the_error_of_a_worker_becomes_an_openai_error() {
        let own = |message: &str, code: Value| json!({"message": message, "type": "server_error", "param": null, "code": code});
        check(
            &json!("out of memory"),
            500,
            own("out of memory", Value::Null),
        );
        check(&json!(null), 500, own("null", Value::Null));
        check(&json!(["a"]), 500, own("[\"a\"]", Value::Null));
        let report = json!({"error_type": "panic", "error_message": "oh", "worker_id": "w"});
        check(&report, 500, own("oh", "panic".into()));
        check(&report.to_string().into(), 500, own("oh", "panic".into()));
    }

    #[test]
    fn the_error_and_the_status_of_the_server_behind_a_worker_are_kept() {
        let upstream = json!({"error": {"message": "no model m", "type": "NotFoundError", "param": "model", "code": 404}});
        let expected = &upstream["error"];
        check(&upstream, 404, expected.clone());
        check(&upstream.to_string().into(), 404, expected.clone());
        let report = json!({"error_type": "RuntimeError", "error_message": upstream.to_string()});
        check(&report.to_string().into(), 404, expected.clone());
        let old = json!({"object": "error", "message": "long", "type": "BadRequestError", "param": null, "code": 400});
        check(
            &old,
            400,
            json!({"message": "long", "type": "BadRequestError", "param": null, "code": 400}),
        );
        // A code need not be an HTTP status.
        let code =
            json!({"error": {"message": "m", "code": "context_length_exceeded"}, "status": "413"});
        check(
            &code,
            413,
            json!({"message": "m", "type": "invalid_request_error", "param": null, "code": "context_length_exceeded"}),
        );
        for odd in [
            json!(200),
            json!(99),
            json!(1e9),
            json!("x"),
            json!({}),
            json!(-400),
        ] {
            check(
                &json!({"error": {"message": "m", "type": "t", "code": odd}}),
                500,
                json!({"message": "m", "type": "t", "param": null, "code": odd}),
            );
        }
    }

    #[test]
    fn an_object_that_has_an_error_among_others_is_an_output() {
        for output in [
            json!({"object": "response", "error": {"code": "server_error", "message": "m"}}),
            json!({"object": "response", "error": null}),
            json!({"error": "text"}),
            json!([]),
        ] {
            assert!(ErrorObject::of_object(&output).is_none(), "{output}");
        }
    }
}
