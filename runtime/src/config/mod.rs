//! The worker's settings from the environment, read once and checked.

// The platform to poll.
mod platform;
// The realtime server.
mod realtime;
// The limits of the built-in fitness checks.
mod fitness;
// Downloads and uploads of jobs.
#[cfg(feature = "upload")]
pub(crate) mod bucket;
#[cfg(any(feature = "download", feature = "upload"))]
mod files;

use std::str::FromStr;

use podwork_protocol::env;
use uuid::Uuid;

use crate::error::Error;
use crate::error::handler_error::Identity;

#[cfg(feature = "download")]
pub(crate) use files::DownloadLimits;
#[cfg(feature = "upload")]
pub(crate) use files::UploadSettings;
#[cfg(feature = "upload")]
pub use files::UploadUrl;
pub(crate) use fitness::Fitness;
pub(crate) use platform::Remote;
pub(crate) use realtime::Realtime;

/// The settings of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) identity: Identity,
    /// The platform to poll. `None`: run locally.
    pub(crate) remote: Option<Remote>,
    /// The realtime server to run instead of polling.
    pub(crate) realtime: Option<Realtime>,
    /// The limits of the built-in fitness checks. `None`: not checked, since this is not a machine of the platform.
    pub(crate) fitness: Option<Fitness>,
}

impl Config {
    /// Reads the settings through `lookup`: the environment, or a table in tests. `streams`: the handler yields chunks.
    ///
    /// # Errors
    /// Returns an error that names the first variable that is missing or invalid.
    pub(crate) fn read(
        lookup: impl Fn(&str) -> Option<String>,
        streams: bool,
    ) -> Result<Self, Error> {
        let get = |name: &str| given(&lookup, name);
        let worker_id = get(env::POD_ID).unwrap_or_else(|| Uuid::new_v4().to_string());
        Ok(Self {
            remote: Remote::read(&get, &worker_id, streams)?,
            identity: Identity {
                worker_id,
                hostname: get(env::POD_HOSTNAME).unwrap_or_else(|| "unknown".to_owned()),
            },
            realtime: Realtime::read(&get)?,
            fitness: Some(Fitness::read(&get)?),
        })
    }
}

/// Returns the value of a variable. A blank one counts as not set.
pub(crate) fn given(lookup: impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    lookup(name).filter(|value| !value.trim().is_empty())
}

/// Returns the name and the value of the first variable that is set.
#[cfg(any(feature = "upload", feature = "otel"))]
pub(crate) fn first_given(
    lookup: impl Fn(&str) -> Option<String>,
    names: &[&'static str],
) -> Option<(&'static str, String)> {
    names
        .iter()
        .find_map(|name| Some((*name, given(&lookup, name)?)))
}

/// Parses a number above 0, if the variable is set.
pub(crate) fn whole_number<T: FromStr + PartialEq + From<u8>>(
    variable: &'static str,
    value: Option<String>,
    expected: &'static str,
) -> Result<Option<T>, Error> {
    let Some(value) = value else { return Ok(None) };
    match value.trim().parse::<T>() {
        Ok(number) if number != T::from(0) => Ok(Some(number)),
        _ => Err(Error::MalformedVariable {
            variable,
            value,
            problem: "not a whole number above 0, or too large".to_owned(),
            expected,
        }),
    }
}

/// Removes the parts of an invalid URL that may be secret: everything before the host, and the query.
#[cfg(any(feature = "download", feature = "upload", feature = "otel"))]
pub(crate) fn without_secrets(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    match url.rfind('@') {
        None => url[..end].to_owned(),
        Some(at) if at < end => format!("…{}", &url[at..end]),
        // The `@` is part of the query, or follows a password that contains a `?`.
        Some(_) => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests;
