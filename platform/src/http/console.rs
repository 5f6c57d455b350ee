//! The console and the page of the operations, and the events that keep the console true.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt as _};
use podwork_protocol::RawValue;
use podwork_protocol::client::StatusResponse;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

use super::client::{Named, hub};
use super::guard;
use super::named::{Path, Query};
use super::openapi::Described;
use super::reply::Failure;
use crate::endpoints::Endpoints;
use crate::example::example;
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

/// Which endpoint a page is of; the default one unless it is said.
#[derive(Debug, Deserialize)]
pub(super) struct Of {
    endpoint: Option<String>,
}

impl Of {
    fn id<'a>(&'a self, endpoints: &'a Endpoints) -> &'a str {
        self.endpoint.as_deref().unwrap_or(endpoints.default_id())
    }
}

/// What the pages begin with.
pub(super) async fn start(State(endpoints): Shared, Query(of): Query<Of>) -> Json<Value> {
    let id = of.id(&endpoints);
    Json(json!({
        "endpoint": id,
        "endpoints": endpoints.ids(),
        "example": example_of(&endpoints, id),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// The request that an endpoint's forms begin with. One that somebody wrote says more than one made of a schema, but only
/// of the endpoint that it was written for, which is likely the default one.
fn example_of(endpoints: &Endpoints, id: &str) -> Option<String> {
    let written = endpoints.settings().example.clone();
    let schema = endpoints.schema(id).map(|schema| schema.input);
    // A schema of anything makes no example.
    let made = schema
        .filter(|schema| *schema != Value::Bool(true))
        .map(|schema| format!("{:#}", json!({ "input": example(&schema) })));
    if id == endpoints.default_id() {
        written.or(made)
    } else {
        made.or(written)
    }
}

/// The description of an endpoint's operations. It is no secret, so it is shown without a key; but not what the endpoint
/// takes and gives, where there is a key to show.
pub(super) async fn description(
    State(endpoints): Shared,
    Query(of): Query<Of>,
    headers: HeaderMap,
    operations: &OpenApi,
) -> Response {
    let id = of.id(&endpoints);
    let schema = endpoints
        .schema(id)
        .filter(|_| guard::shown(&endpoints, &headers));
    match schema {
        Some(schema) => Json(Described::of(operations, id, &schema)).into_response(),
        None => Json(operations).into_response(),
    }
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
