//! The console and the page of the operations, and the events that keep the console true.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _};
use podwork_protocol::RawValue;
use podwork_protocol::client::StatusResponse;
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{Named, hub};
use super::named::Path;
use super::reply::Failure;
use crate::endpoints::Endpoints;
use crate::follow::{JobEvent, follow};

type Shared = State<Arc<Endpoints>>;

/// Between two looks at the endpoint.
const PAUSE: Duration = Duration::from_millis(100);
/// The pages bring all they need, and load nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page, or a part of one. None holds anything secret: their calls show the key that they ask the user for.
fn page(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &'static str); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

/// The console.
pub(super) async fn console() -> impl IntoResponse {
    page(
        "text/html; charset=utf-8",
        include_str!("pages/console.html"),
    )
}

/// The operations, each with a form to try it.
pub(super) async fn docs() -> impl IntoResponse {
    page("text/html; charset=utf-8", include_str!("pages/docs.html"))
}

/// How the pages look.
pub(super) async fn style() -> impl IntoResponse {
    page("text/css; charset=utf-8", include_str!("pages/page.css"))
}

/// What the pages' scripts share.
pub(super) async fn script() -> impl IntoResponse {
    page(
        "text/javascript; charset=utf-8",
        include_str!("pages/page.js"),
    )
}

/// What the pages begin with.
pub(super) async fn start(State(endpoints): Shared) -> Json<Value> {
    Json(json!({
        "endpoint": endpoints.default_id(),
        "endpoints": endpoints.ids(),
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
