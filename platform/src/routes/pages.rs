//! The browser pages: the console and the API documentation, and their initial data.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

use super::access;
use super::extract::{Query, Shared};
use super::openapi::DescribedCall;
use crate::registry::Registry;
use crate::schema_example::example;

/// The content security policy: the pages are self-contained and load nothing from other origins.
const POLICY: &str = "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns a page or one of its assets. They contain no secrets: the pages ask the user for the key and send it with
/// their calls.
fn page(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &'static str); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

/// Returns the console.
pub(super) async fn console() -> impl IntoResponse {
    page(
        "text/html; charset=utf-8",
        include_str!("pages/console.html"),
    )
}

/// Returns the API documentation, with a form to try each operation.
pub(super) async fn docs() -> impl IntoResponse {
    page("text/html; charset=utf-8", include_str!("pages/docs.html"))
}

/// Returns the style sheet of the pages.
pub(super) async fn style() -> impl IntoResponse {
    page("text/css; charset=utf-8", include_str!("pages/page.css"))
}

/// Returns the script that the pages share.
pub(super) async fn script() -> impl IntoResponse {
    page(
        "text/javascript; charset=utf-8",
        include_str!("pages/page.js"),
    )
}

/// The query parameters of a page: the endpoint. Default: the default endpoint.
#[derive(Debug, Deserialize)]
pub(super) struct Of {
    endpoint: Option<String>,
}

impl Of {
    fn id<'a>(&'a self, registry: &'a Registry) -> &'a str {
        self.endpoint.as_deref().unwrap_or(registry.default_id())
    }
}

/// Returns the initial data of the pages.
pub(super) async fn start(State(registry): Shared, Query(of): Query<Of>) -> Json<Value> {
    let id = of.id(&registry);
    Json(json!({
        "endpoint": id,
        "endpoints": registry.ids(),
        "example": example_of(&registry, id),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// Returns the initial request of an endpoint's forms. A hand-written example is better than one made from a schema,
/// but only for the endpoint that it was written for, which is probably the default one.
fn example_of(registry: &Registry, id: &str) -> Option<String> {
    let written = registry.settings().example.clone();
    let schema = registry.schema(id).map(|schema| schema.input);
    // A schema that allows anything yields no useful example.
    let made = schema
        .filter(|schema| *schema != Value::Bool(true))
        .map(|schema| format!("{:#}", json!({ "input": example(&schema) })));
    if id == registry.default_id() {
        written.or(made)
    } else {
        made.or(written)
    }
}

/// Returns the description of an endpoint's operations. The operations are public. The schemas of the endpoint's input
/// and output require the clients' API key, if one is configured.
pub(super) async fn description(
    State(registry): Shared,
    Query(of): Query<Of>,
    headers: HeaderMap,
    operations: &OpenApi,
) -> Response {
    let id = of.id(&registry);
    let schema = registry
        .schema(id)
        .filter(|_| access::shown(&registry, &headers));
    match schema {
        Some(schema) => Json(DescribedCall::of(operations, id, &schema)).into_response(),
        None => Json(operations).into_response(),
    }
}
