//! HTTP: requests become calls of the state machine, and its answers become responses. No rule lives here.

mod body;
mod client;
mod realtime;
mod reply;
mod worker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use tokio_util::sync::CancellationToken;

use crate::core::Refusal;
use crate::hub::Hub;
use crate::settings::Settings;
pub(crate) use client::submission_of;
use reply::{Failure, method_not_allowed};

/// Most endpoints that come to life by being used.
const MOST_ENDPOINTS: usize = 1000;

/// All endpoints.
#[derive(Debug)]
pub(crate) struct Endpoints {
    settings: Settings,
    /// Answers at the root.
    default_id: String,
    hubs: Mutex<HashMap<String, Arc<Hub>>>,
    closing: CancellationToken,
}

impl Endpoints {
    pub(crate) fn new(settings: Settings, default_id: String, closing: CancellationToken) -> Self {
        Self {
            settings,
            default_id,
            hubs: Mutex::default(),
            closing,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn default_id(&self) -> &str {
        &self.default_id
    }

    /// The endpoint of this id, which comes to life when it is first asked for.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<Hub>, Refusal> {
        if !is_endpoint_id(id) {
            return Err(Refusal::NotFound(format!(
                "`{id}` cannot be an endpoint id"
            )));
        }
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(id) {
            return Ok(Arc::clone(hub));
        }
        if hubs.len() >= MOST_ENDPOINTS {
            return Err(Refusal::NotFound(format!(
                "endpoint {id} is not here, and there are {MOST_ENDPOINTS} already"
            )));
        }
        let hub = Hub::start(self.settings.clone(), self.closing.clone());
        hubs.insert(id.to_owned(), Arc::clone(&hub));
        Ok(hub)
    }
}

/// Whether the id can stand in a URL as it is.
pub(crate) fn is_endpoint_id(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&id.len()) && id.bytes().all(fits)
}

/// All routes.
pub(crate) fn router(endpoints: Arc<Endpoints>) -> Router {
    let operations = Router::new()
        .route("/run", post(client::run))
        .route("/runsync", post(client::runsync))
        .route("/status/{job}", get(client::status).post(client::status))
        .route(
            "/status-sync/{job}",
            get(client::status_sync).post(client::status_sync),
        )
        .route("/stream/{job}", get(client::stream).post(client::stream))
        .route("/cancel/{job}", post(client::cancel))
        .route("/retry/{job}", post(client::retry))
        .route("/purge-queue", post(client::purge_queue))
        .route("/health", get(client::health));
    let workers = Router::new()
        .route("/job-take/{worker}", get(worker::take))
        .route("/job-take-batch/{worker}", get(worker::take_batch))
        .route("/job-stop/{worker}", get(worker::stop))
        .route("/job-done/{worker}/{job}", post(worker::done))
        .route("/job-stream/{worker}/{job}", post(worker::stream))
        .route("/ping/{worker}", get(worker::ping));
    Router::new()
        // As the official development server has it: the operations at the root are those of one endpoint.
        .merge(operations.clone())
        .nest("/v2/{endpoint}", operations.merge(workers))
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
