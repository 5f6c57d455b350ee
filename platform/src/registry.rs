//! All endpoints of a platform, by id.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podwork_protocol::HandlerSchema;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::endpoint_handle::EndpointHandle;
use crate::engine::Refusal;
use crate::settings::Settings;
use crate::webhooks::Webhooks;

/// Most endpoints that come to life by being used.
const MOST_ENDPOINTS: usize = 1000;

/// All endpoints.
#[derive(Debug)]
pub(crate) struct Registry {
    settings: Settings,
    /// Answers at the root.
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
            webhooks: Webhooks::new(settings.webhook_secret.take()),
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

    /// The ids of all that are there, the default one's too.
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

    /// What an endpoint takes and gives, if it is known.
    pub(crate) fn schema(&self, id: &str) -> Option<HandlerSchema> {
        self.schemas().get(id).cloned()
    }

    /// Says what an endpoint takes and gives; `None`: it is not known any more.
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

    /// The endpoint of this id, which comes to life when it is first asked for.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<EndpointHandle>, Refusal> {
        if !is_endpoint_id(id) {
            return Err(Refusal::NotFound(format!(
                "`{id}` cannot be an endpoint id"
            )));
        }
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handles.get(id) {
            return Ok(Arc::clone(handle));
        }
        if handles.len() >= MOST_ENDPOINTS {
            return Err(Refusal::NotFound(format!(
                "endpoint {id} is not here, and there are {MOST_ENDPOINTS} already"
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

/// Whether the id can stand in a URL as it is.
pub(crate) fn is_endpoint_id(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&id.len()) && id.bytes().all(fits)
}
