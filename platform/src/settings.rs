//! What can be set for the platform as a whole.

use std::collections::HashMap;
use std::time::Duration;

use podwork_protocol::{HandlerSchema, limits};

use crate::rules::Rules;
use crate::webhook_signature::Secret;

/// Settings of the platform.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Rules of every endpoint that has none of its own.
    pub(crate) rules: Rules,
    /// Registry' own rules, by id.
    pub(crate) own_rules: HashMap<String, Rules>,
    /// What workers are told to ping at.
    pub(crate) ping_interval: Duration,
    /// What clients have to show; `None`: nothing.
    pub(crate) api_key: Option<String>,
    /// What workers have to show; `None`: what clients have to.
    pub(crate) worker_key: Option<String>,
    /// The secret that webhook calls are signed with; `None`: they are not.
    pub(crate) webhook_secret: Option<Secret>,
    /// A request body that the console's form begins with.
    pub(crate) example: Option<String>,
    /// What endpoints take and give, by id, as far as it is known when the platform starts.
    pub(crate) schemas: HashMap<String, HandlerSchema>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            own_rules: HashMap::new(),
            ping_interval: limits::DEFAULT_PING_INTERVAL,
            api_key: None,
            worker_key: None,
            webhook_secret: None,
            example: None,
            schemas: HashMap::new(),
        }
    }
}
