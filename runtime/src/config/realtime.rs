use podwork_protocol::env;

use crate::error::Error;

use super::whole_number;

/// The settings of the realtime server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Realtime {
    pub(crate) port: u16,
    /// Maximum number of jobs in flight. Default: 1.
    pub(crate) concurrency: usize,
    /// The first part of the route.
    pub(crate) endpoint_id: String,
}

impl Realtime {
    pub(super) fn read(get: &impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let port = get(env::REALTIME_PORT);
        let Some(port) = whole_number(env::REALTIME_PORT, port, "a port number")? else {
            return Ok(None);
        };
        let concurrency = get(env::REALTIME_CONCURRENCY);
        let expected = "a number of jobs, such as 4";
        let concurrency = whole_number(env::REALTIME_CONCURRENCY, concurrency, expected)?;
        let endpoint_id = get(env::ENDPOINT_ID).ok_or(Error::MissingVariable {
            variable: env::ENDPOINT_ID,
            because: "the realtime server answers at /<endpoint>/realtime",
            expected: "the endpoint's id",
        })?;
        Ok(Some(Self {
            port,
            concurrency: concurrency.unwrap_or(1),
            endpoint_id,
        }))
    }
}
