//! The pages in the browser: the console and the operations, and what they begin with.

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
    fn id<'a>(&'a self, registry: &'a Registry) -> &'a str {
        self.endpoint.as_deref().unwrap_or(registry.default_id())
    }
}

/// What the pages begin with.
pub(super) async fn start(State(registry): Shared, Query(of): Query<Of>) -> Json<Value> {
    let id = of.id(&registry);
    Json(json!({
        "endpoint": id,
        "endpoints": registry.ids(),
        "example": example_of(&registry, id),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// The request that an endpoint's forms begin with. One that somebody wrote says more than one made of a schema, but only
/// of the endpoint that it was written for, which is likely the default one.
fn example_of(registry: &Registry, id: &str) -> Option<String> {
    let written = registry.settings().example.clone();
    let schema = registry.schema(id).map(|schema| schema.input);
    // A schema of anything makes no example.
    let made = schema
        .filter(|schema| *schema != Value::Bool(true))
        .map(|schema| format!("{:#}", json!({ "input": example(&schema) })));
    if id == registry.default_id() {
        written.or(made)
    } else {
        made.or(written)
    }
}

/// The description of an endpoint's operations. It is no secret, so it is shown without a key; but not what the endpoint
/// takes and gives, where there is a key to show.
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
