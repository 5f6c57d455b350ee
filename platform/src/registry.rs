//! All endpoints of a platform, by id.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podwork_protocol::HandlerSchema;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::endpoint_handle::EndpointHandle;
use crate::engine::Refusal;
use crate::settings::Settings;
use crate::webhook_client::WebhookClient;
use crate::webhooks::Webhooks;

/// The maximum number of endpoints that can be created by use.
const MOST_ENDPOINTS: usize = 1000;

/// All endpoints.
#[derive(Debug)]
pub(crate) struct Registry {
    settings: Settings,
    /// The endpoint whose API is also at the root.
    default_id: String,
    handles: Mutex<HashMap<String, Arc<EndpointHandle>>>,
    schemas: Mutex<HashMap<String, HandlerSchema>>,
    clock: Clock,
    webhooks: Webhooks,
    closing: CancellationToken,
}

impl Registry {
    pub(crate) fn new(
        mut settings: Settings,
        default_id: String,
        closing: CancellationToken,
    ) -> Self {
        Self {
            schemas: Mutex::new(std::mem::take(&mut settings.schemas)),
            webhooks: Webhooks::new(WebhookClient::new(
                settings.webhook_secret.take(),
                settings.public_webhooks_only,
            )),
            settings,
            default_id,
            handles: Mutex::default(),
            clock: Clock::new(),
            closing,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn default_id(&self) -> &str {
        &self.default_id
    }

    /// Returns the ids of all endpoints in use, and of those with their own rules or schema, and of the default one.
    pub(crate) fn ids(&self) -> Vec<String> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let schemas = self.schemas();
        let own = self.settings.own_rules.keys().chain(schemas.keys());
        let ids: BTreeSet<&String> = handles
            .keys()
            .chain(own)
            .chain([&self.default_id])
            .collect();
        ids.into_iter().cloned().collect()
    }

    /// Returns the schema of an endpoint's input and output, if it is known.
    pub(crate) fn schema(&self, id: &str) -> Option<HandlerSchema> {
        self.schemas().get(id).cloned()
    }

    /// Sets the schema of an endpoint's input and output; `None` removes it.
    pub(crate) fn set_schema(&self, id: &str, schema: Option<HandlerSchema>) {
        let mut schemas = self.schemas();
        match schema {
            Some(schema) => schemas.insert(id.to_owned(), schema),
            None => schemas.remove(id),
        };
    }

    fn schemas(&self) -> MutexGuard<'_, HashMap<String, HandlerSchema>> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the endpoint that a path names, or the default one.
    pub(crate) fn named(&self, id: Option<&str>) -> Result<Arc<EndpointHandle>, Refusal> {
        self.get(id.unwrap_or(&self.default_id))
    }

    /// Returns the endpoint with this id, and creates it on first use.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<EndpointHandle>, Refusal> {
        if !is_endpoint_id(id) {
            return Err(Refusal::NotFound(format!(
                "invalid endpoint id `{id}`: use 1 to 64 letters, digits, `-` or `_`"
            )));
        }
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handles.get(id) {
            return Ok(Arc::clone(handle));
        }
        if handles.len() >= MOST_ENDPOINTS {
            return Err(Refusal::NotFound(format!(
                "cannot create endpoint {id}: the limit of {MOST_ENDPOINTS} endpoints is reached"
            )));
        }
        let handle = EndpointHandle::start(
            self.settings
                .own_rules
                .get(id)
                .unwrap_or(&self.settings.rules)
                .clone(),
            self.clock.clone(),
            self.webhooks.clone(),
            self.closing.clone(),
        );
        handles.insert(id.to_owned(), Arc::clone(&handle));
        Ok(handle)
    }
}

/// Returns whether the id can be part of a URL without escaping.
pub(crate) fn is_endpoint_id(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&id.len()) && id.bytes().all(fits)
}
