//! The HTTP routes: requests become calls of an endpoint, and their results become responses. No rule is implemented
//! here.

mod client; // client API: /run and the other operations
mod openai; // client API for the official OpenAI clients
mod worker; // worker API: take, stop, done, stream, ping
mod console; // server-sent events for the console
mod pages; // browser pages
mod openapi; // description of the client API
mod door; // hosts and origins
mod access; // API keys
mod fault_layer; // fault injection
mod extract; // path and query parameters
mod body; // request and response bodies
mod failure; // error responses

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::engine::Refusal;
use crate::faults::{Decider, Faults};
use crate::registry::Registry;
use failure::{Failure, method_not_allowed};

/// Creates the router with all routes. `faults` are injected into API calls.
pub(crate) fn router(registry: Arc<Registry>, faults: Option<Faults>) -> Router {
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
        .route("/openai/{*route}", get(openai::get).post(openai::post))
        .route("/console/events", get(console::overview))
        .route("/console/events/{job}", get(console::job))
        .route_layer(from_fn_with_state(Arc::clone(&registry), access::client));
    let workers = Router::new()
        .route("/job-take/{worker}", get(worker::take))
        .route("/job-take-batch/{worker}", get(worker::take_batch))
        .route("/job-stop/{worker}", get(worker::stop))
        .route("/job-done/{worker}/{job}", post(worker::done))
        .route("/job-stream/{worker}/{job}", post(worker::stream))
        .route("/ping/{worker}", get(worker::ping))
        .route_layer(from_fn_with_state(Arc::clone(&registry), access::worker));
    let calls = Router::new()
        // As in the official development server, the root has the operations of one endpoint.
        .merge(operations.clone())
        .nest("/v2/{endpoint}", operations.merge(workers));
    let guarded = from_fn_with_state(Arc::clone(&registry), door::check_site);
    let calls = calls.route_layer(from_fn(body::refuse_encoded));
    let calls = match faults {
        Some(faults) => {
            let decider = Arc::new(Decider::new(faults));
            calls.route_layer(from_fn_with_state(decider, fault_layer::apply))
        }
        None => calls,
    };
    let calls = calls.route_layer(guarded.clone());
    let console = Router::new()
        .route("/console/start", get(pages::start))
        .route_layer(from_fn_with_state(Arc::clone(&registry), access::client))
        .route_layer(guarded)
        .route("/", get(pages::console))
        .route("/docs", get(pages::docs))
        .route("/page.css", get(pages::style))
        .route("/page.js", get(pages::script))
        .route(
            "/openapi.json",
            get(async move |shared, of, headers| {
                pages::description(shared, of, headers, &description).await
            }),
        );
    let all = calls
        .merge(console)
        .fallback(any(not_found))
        .method_not_allowed_fallback(method_not_allowed);
    let origins = registry.settings().guard.origins();
    let all = match origins {
        [] => all,
        origins => all.layer(door::cors(origins)),
    };
    all.layer(from_fn_with_state(Arc::clone(&registry), door::check))
        .layer(from_fn(openai::convert_errors))
        .with_state(registry)
}

async fn not_found(uri: Uri) -> Response {
    Failure::from(Refusal::NotFound(format!(
        "no route for path {}",
        uri.path()
    )))
    .into_response()
}
