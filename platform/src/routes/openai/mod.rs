//! The OpenAI routes: `/openai/v1/…` runs a job whose input names the route and has the request body, and answers with
//! the job's output. Any worker that knows this input speaks to the official OpenAI clients.

mod output; // job outputs and chunks as OpenAI answers and events
mod error; // OpenAI error objects

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use podwork_protocol::RawValue;
use podwork_protocol::client::RunRequest;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::body::{object, read};
use super::extract::{Path, Shared};
use super::failure::{Answer, Failure};
use crate::call_limits::Operation;
use crate::endpoint_handle::{EndpointHandle, in_background};
use crate::engine::{Id, Refusal};
use crate::run_request::submission_of;
use crate::store::{Stored, Wanted};
use error::ErrorObject;
pub(super) use error::convert_errors;

/// The header with the job's id. The official clients show it as the id of the request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The path parameters: the endpoint, absent at the root, and the OpenAI route without its leading slash.
#[derive(Debug, Deserialize)]
pub(super) struct OpenAiPath {
    endpoint: Option<String>,
    route: String,
}

/// The input of the job.
#[derive(Serialize)]
struct OpenAiInput<'a> {
    openai_route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    openai_input: Option<&'a RawValue>,
}

/// A request body: a JSON object, kept as it is written.
struct OpenAiBody {
    text: Box<RawValue>,
    streams: bool,
}

impl<'de> Deserialize<'de> for OpenAiBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Options {
            #[serde(default)]
            stream: Value,
        }

        let text = Box::<RawValue>::deserialize(deserializer)?;
        let options: Options = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let streams = options.stream == Value::Bool(true);
        Ok(Self { text, streams })
    }
}

/// Handles GET: a job without `openai_input`.
pub(super) async fn get(
    State(registry): Shared,
    Path(OpenAiPath { endpoint, route }): Path<OpenAiPath>,
) -> Answer<Response> {
    let handle = registry.named(endpoint.as_deref())?;
    let _open = handle.admit(Operation::Runsync).await?;
    let call = OpenAiCall::submit(&handle, &route, None).await?;
    call.answer().await
}

/// Handles POST. If the body has `"stream": true`, the answer is a stream of server-sent events.
pub(super) async fn post(
    State(registry): Shared,
    Path(OpenAiPath { endpoint, route }): Path<OpenAiPath>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let handle = registry.named(endpoint.as_deref())?;
    let _open = handle.admit(Operation::Runsync).await?;
    refuse_multipart(&headers)?;
    let body = read(body, handle.rules().runsync_payload).await?;
    let body: OpenAiBody = object(body, "a JSON object").await?;
    let call = OpenAiCall::submit(&handle, &route, Some(&body.text)).await?;
    if body.streams {
        call.events().await
    } else {
        call.answer().await
    }
}

/// Refuses audio and image uploads, which do not fit into the JSON input of a job.
fn refuse_multipart(headers: &HeaderMap) -> Answer<()> {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    if !kind.starts_with(b"multipart/") {
        return Ok(());
    }
    Err(Failure::unsupported(
        "multipart bodies are not supported: the input of a job is JSON; send files as URLs or base64",
    ))
}

/// The job of a request. It is cancelled if the client disconnects before the job has ended.
struct OpenAiCall {
    handle: Arc<EndpointHandle>,
    id: Id,
    /// The number of times that the job had returned to the queue when its first chunk came.
    requeues: Option<u32>,
    ended: bool,
}

impl OpenAiCall {
    async fn submit(
        handle: &Arc<EndpointHandle>,
        route: &str,
        body: Option<&RawValue>,
    ) -> Answer<Self> {
        let input = serde_json::value::to_raw_value(&OpenAiInput {
            openai_route: &format!("/{route}"),
            openai_input: body,
        });
        let input = input.map_err(|error| Failure::bad(error.to_string()))?;
        let submission = submission_of(RunRequest::new(input), true, handle.rules())?;
        let id = Id::clone(&submission.id);
        handle.endpoint().submit(submission).await?;
        Ok(Self {
            handle: Arc::clone(handle),
            id,
            requeues: None,
            ended: false,
        })
    }

    /// Waits until `wanted` accepts the job. The job's own time limits bound the wait.
    async fn until(&mut self, wanted: impl Fn(&Stored) -> bool, what: Wanted) -> Answer<Stored> {
        let endpoint = self.handle.endpoint();
        let job = self.handle.until_job(&self.id, None, || async {
            let job = endpoint.job(&self.id, what).await;
            (!job.as_ref().is_ok_and(|job| !wanted(job))).then_some(job)
        });
        let job: Result<Stored, Refusal> = job.await.ok_or_else(Failure::closing)?;
        self.ended = job
            .as_ref()
            .map_or(true, |job| job.record.status.is_final());
        Ok(job?)
    }

    /// Answers with the output of the job as one JSON value.
    async fn answer(mut self) -> Answer<Response> {
        let ended = self.until(|job| job.record.status.is_final(), Wanted::Output);
        let job = ended.await?;
        let (status, text) = match ErrorObject::of_failed(&job.record) {
            Some(error) => (error.status(), error.body()),
            None => output::whole(job.output.as_ref()),
        };
        Ok(respond(&self.id, status, "application/json", text.into()))
    }

    /// Answers with the chunks of the job as server-sent events. If it fails before the first chunk, the answer is an
    /// error instead.
    async fn events(mut self) -> Answer<Response> {
        let first = self.next().await?;
        let failed = ErrorObject::of_failed(&first.record).filter(|_| first.chunks.is_empty());
        if let Some(error) = failed {
            let body = error.body().into();
            return Ok(respond(&self.id, error.status(), "application/json", body));
        }
        let id = Id::clone(&self.id);
        let body = Body::from_stream(self.into_events(first));
        Ok(respond(&id, StatusCode::OK, "text/event-stream", body))
    }

    /// Waits for chunks that have not been sent, or for the end of the job. A job that returns to the queue after its
    /// first chunk counts as ended, too: the next worker would send its chunks from the start.
    async fn next(&mut self) -> Answer<Stored> {
        let before = self.requeues;
        let news = |job: &Stored| {
            let lost = before.is_some_and(|requeues| job.record.requeues != requeues);
            lost || !job.chunks.is_empty() || job.record.status.is_final()
        };
        let job = self.until(news, Wanted::Unread).await?;
        self.requeues.get_or_insert(job.record.requeues);
        Ok(job)
    }

    fn into_events(self, first: Stored) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
        let streams = !first.chunks.is_empty();
        stream::unfold(Some((self, Some(first))), move |state| async move {
            let (mut call, first) = state?;
            let news = match first {
                Some(first) => Ok(first),
                None => call.next().await,
            };
            let job = match news {
                Ok(job) if call.requeues == Some(job.record.requeues) => job,
                Ok(_) => return Some((ErrorObject::lost().event(), None)),
                Err(_) => return Some((ErrorObject::gone().event(), None)),
            };
            call.handle.endpoint().mark_read(&job).await;
            let mut text = output::events_of_chunks(&job.chunks);
            if !call.ended {
                return Some((text, Some((call, None))));
            }
            match ErrorObject::of_failed(&job.record) {
                Some(error) => text.push_str(&error.event()),
                None if !streams => text.push_str(&call.output_as_events().await),
                None => {}
            }
            Some((text, None))
        })
        .map(|text| Ok(text.into()))
    }

    /// Returns the output of a handler that does not stream.
    async fn output_as_events(&self) -> String {
        match self.handle.endpoint().job(&self.id, Wanted::Output).await {
            Ok(job) => output::events_of_whole(job.output.as_ref()),
            Err(_) => ErrorObject::gone().event(),
        }
    }
}

impl Drop for OpenAiCall {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (handle, id) = (Arc::clone(&self.handle), Id::clone(&self.id));
        in_background(async move {
            // A refusal means that the job is gone.
            let _ = handle.endpoint().cancel(&id).await;
        });
    }
}

fn respond(id: &str, status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(id) = id.try_into() {
        headers.insert(REQUEST_ID, id);
    }
    response
}
