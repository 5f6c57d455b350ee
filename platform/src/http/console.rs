//! The console: one page, and the events that keep it true.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use futures::{Stream, StreamExt as _};
use podwork_protocol::RawValue;
use podwork_protocol::client::StatusResponse;
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{Named, hub};
use super::reply::Failure;
use crate::endpoints::Endpoints;
use crate::follow::{JobEvent, follow};

type Shared = State<Arc<Endpoints>>;

/// Between two looks at the endpoint.
const PAUSE: Duration = Duration::from_millis(100);
/// The page brings all it needs, and loads nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page. It asks for nothing secret: its calls show the key that it asks the user for.
pub(super) async fn page() -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 2] = [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, Html(include_str!("console.html")))
}

/// What the page begins with.
pub(super) async fn start(State(endpoints): Shared) -> Json<Value> {
    Json(json!({
        "endpoint": endpoints.default_id(),
        "example": endpoints.settings().example,
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// The endpoint at a glance, after each change.
pub(super) async fn overview(
    State(endpoints): Shared,
    Path(named): Path<Named>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let overviews = hub(&endpoints, &named)?.overviews(PAUSE);
    Ok(events(overviews))
}

/// What happens to one job.
#[derive(Debug, Serialize)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
enum Happening {
    Queued,
    Started(String),
    Progress(Box<RawValue>),
    Chunk(Box<RawValue>),
    Finished(StatusResponse),
}

/// All that happens to one job, from its submission on.
pub(super) async fn job(
    State(endpoints): Shared,
    Path(named): Path<Named>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let hub = hub(&endpoints, &named)?;
    hub.read(|endpoint| endpoint.job(&named.job).map(|_| ()))?;
    let happenings = follow(hub, named.job).map(|event| match event {
        JobEvent::Queued => Happening::Queued,
        JobEvent::Started { worker_id } => Happening::Started(worker_id),
        JobEvent::Progress(progress) => Happening::Progress(progress),
        JobEvent::Chunk(chunk) => Happening::Chunk(chunk),
        JobEvent::Finished(status) => Happening::Finished(status),
    });
    Ok(events(happenings))
}

fn events<T: Serialize>(
    values: impl Stream<Item = T> + Send + 'static,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = values.map(|value| {
        // Compact JSON has no line breaks, and these are strings, numbers and raw JSON, which always serialise.
        let text = serde_json::to_string(&value).unwrap_or_default();
        Ok(Event::default().data(text.replace(['\n', '\r'], " ")))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
