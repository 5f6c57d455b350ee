use podwork_protocol::env;

use crate::error::Error;

use super::whole_number;

/// The settings of the realtime server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Realtime {
    /// 0: a free port.
    pub(crate) port: u16,
    /// Maximum number of jobs in flight. Default: 1.
    pub(crate) concurrency: usize,
    /// The first part of the route.
    pub(crate) endpoint_id: String,
}

impl Realtime {
    pub(super) fn read(get: &impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let Some(port) = get(env::REALTIME_PORT) else {
            return Ok(None);
        };
        let port = port.trim().parse().map_err(|_| Error::MalformedVariable {
            variable: env::REALTIME_PORT,
            value: port.clone(),
            problem: "not a port number".to_owned(),
            expected: "a number from 1 to 65535, or 0 for a free port",
        })?;
        let concurrency = get(env::REALTIME_CONCURRENCY);
        let expected = "a number of jobs, such as 4";
        let concurrency = whole_number(env::REALTIME_CONCURRENCY, concurrency, expected)?;
        let endpoint_id = get(env::ENDPOINT_ID).ok_or(Error::MissingVariable {
            variable: env::ENDPOINT_ID,
            because: "the route of the realtime server is /<endpoint>/realtime",
            expected: "the id of the endpoint",
        })?;
        Ok(Some(Self {
            port,
            concurrency: concurrency.unwrap_or(1),
            endpoint_id,
        }))
    }
}
