//! The settings of the whole platform.

use std::collections::HashMap;
use std::time::Duration;

use podwork_protocol::{HandlerSchema, limits};

use crate::api_key::ApiKey;
use crate::browser_guard::BrowserGuard;
use crate::rules::Rules;
use crate::webhook_signature::Secret;

/// The settings of the whole platform.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The rules of all endpoints without their own rules.
    pub(crate) rules: Rules,
    /// The rules of single endpoints, by id.
    pub(crate) own_rules: HashMap<String, Rules>,
    /// The ping interval for workers.
    pub(crate) ping_interval: Duration,
    /// The API key that clients must send; `None` if no key is required.
    pub(crate) api_key: Option<ApiKey>,
    /// The API key that workers must send; `None` for the clients' key.
    pub(crate) worker_key: Option<ApiKey>,
    /// The hosts and origins that the platform answers to.
    pub(crate) guard: BrowserGuard,
    /// The secret that signs webhook calls; `None` if calls are not signed.
    pub(crate) webhook_secret: Option<Secret>,
    /// Makes webhook calls to addresses that are not public fail.
    pub(crate) public_webhooks_only: bool,
    /// The initial request body of the console's form.
    pub(crate) example: Option<String>,
    /// The schemas of endpoints' inputs and outputs that are known at the start, by id.
    pub(crate) schemas: HashMap<String, HandlerSchema>,
}

impl Settings {
    /// Returns the key that workers must send, if any.
    pub(crate) fn key_of_workers(&self) -> Option<&ApiKey> {
        self.worker_key.as_ref().or(self.api_key.as_ref())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            own_rules: HashMap::new(),
            ping_interval: limits::DEFAULT_PING_INTERVAL,
            api_key: None,
            worker_key: None,
            guard: BrowserGuard::default(),
            webhook_secret: None,
            public_webhooks_only: false,
            example: None,
            schemas: HashMap::new(),
        }
    }
}
