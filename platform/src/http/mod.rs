//! HTTP: requests become calls of the state machine, and its answers become responses. No rule lives here.

mod body;
mod client;
mod console;
mod guard;
mod named;
mod openapi;
mod realtime;
mod reply;
mod worker;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::core::Refusal;
use crate::endpoints::Endpoints;
use crate::faults::{Decider, Faults};
use reply::{Failure, method_not_allowed};

/// All routes; `faults` has some calls fail.
pub(crate) fn router(endpoints: Arc<Endpoints>, faults: Option<Faults>) -> Router {
    let (operations, described) = OpenApiRouter::new()
        .routes(routes!(client::run))
        .routes(routes!(client::runsync))
        .routes(routes!(client::status))
        .routes(routes!(client::status_sync))
        .routes(routes!(client::stream))
        .routes(routes!(client::cancel))
        .routes(routes!(client::retry))
        .routes(routes!(client::purge_queue))
        .routes(routes!(client::health))
        .split_for_parts();
    let description = Arc::new(openapi::describe(described));
    let operations = operations
        .route("/console/events", get(console::overview))
        .route("/console/events/{job}", get(console::job))
        .route_layer(from_fn_with_state(Arc::clone(&endpoints), guard::client));
    let workers = Router::new()
        .route("/job-take/{worker}", get(worker::take))
        .route("/job-take-batch/{worker}", get(worker::take_batch))
        .route("/job-stop/{worker}", get(worker::stop))
        .route("/job-done/{worker}/{job}", post(worker::done))
        .route("/job-stream/{worker}/{job}", post(worker::stream))
        .route("/ping/{worker}", get(worker::ping))
        .route_layer(from_fn_with_state(Arc::clone(&endpoints), guard::worker));
    let calls = Router::new()
        // As the official development server has it: the operations at the root are those of one endpoint.
        .merge(operations.clone())
        .nest("/v2/{endpoint}", operations.merge(workers));
    let calls = match faults {
        Some(faults) => {
            let decider = Arc::new(Decider::new(faults));
            calls.route_layer(from_fn_with_state(decider, guard::trouble))
        }
        None => calls,
    };
    let console = Router::new()
        .route("/console/start", get(console::start))
        .route_layer(from_fn_with_state(Arc::clone(&endpoints), guard::client))
        .route("/", get(console::console))
        .route("/docs", get(console::docs))
        .route("/page.css", get(console::style))
        .route("/page.js", get(console::script))
        .route(
            "/openapi.json",
            get(async move |shared, of, headers| {
                console::description(shared, of, headers, &description).await
            }),
        );
    calls
        .merge(console)
        .fallback(any(not_found))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(endpoints)
}

/// The one route of the realtime server of this endpoint.
pub(crate) fn realtime_router(endpoints: Arc<Endpoints>, id: &str) -> Router {
    Router::new()
        .route(&format!("/{id}/realtime"), post(realtime::call))
        .fallback(any(not_found))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(endpoints)
}

async fn not_found(uri: Uri) -> Response {
    Failure::from(Refusal::NotFound(format!(
        "there is nothing at {}",
        uri.path()
    )))
    .into_response()
}
