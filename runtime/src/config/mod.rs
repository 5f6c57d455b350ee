//! Settings that come from the environment, read once and checked.

use std::str::FromStr;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderValue;
use podwork_protocol::template::UrlTemplate;
use podwork_protocol::{env, limits};
use uuid::Uuid;

use crate::error::Error;
use crate::error::handler_error::Identity;

#[cfg(feature = "upload")]
pub(crate) mod bucket;
#[cfg(any(feature = "download", feature = "upload"))]
mod files;

#[cfg(feature = "download")]
pub(crate) use files::DownloadLimits;
#[cfg(feature = "upload")]
pub(crate) use files::UploadSettings;

/// What the environment says of this worker.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) identity: Identity,
    /// Where to pull from; `None`: run locally.
    pub(crate) remote: Option<Remote>,
    /// Set: serve there instead of pulling.
    pub(crate) realtime: Option<Realtime>,
    /// What the machine must offer; `None`: nothing is checked, since this is no machine of the platform's.
    pub(crate) fitness: Option<Fitness>,
}

/// What the environment says of the built-in fitness checks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fitness {
    /// Memory that must be available, in GiB.
    pub(crate) min_memory_gb: f64,
    /// Disk that must be free, in percent of the whole.
    pub(crate) min_disk_percent: f64,
    /// Neither of both is checked.
    pub(crate) skip_system: bool,
    /// GPUs are not checked.
    pub(crate) skip_gpu: bool,
    /// How many GPUs the platform says there are.
    pub(crate) gpus: Option<u32>,
}

/// The realtime server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Realtime {
    pub(crate) port: u16,
    /// Jobs at once.
    pub(crate) concurrency: usize,
    /// Names the route.
    pub(crate) endpoint_id: String,
}

/// The platform to pull from.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) take: UrlTemplate,
    pub(crate) done: UrlTemplate,
    pub(crate) stream: Option<UrlTemplate>,
    /// `None`: no heartbeat.
    pub(crate) ping: Option<UrlTemplate>,
    pub(crate) ping_interval: Duration,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) user_agent: HeaderValue,
}

const TAKE_FORM: &str = "a URL such as https://api.runpod.ai/v2/<endpoint>/job-take/$ID";
const DONE_FORM: &str =
    "a URL such as https://api.runpod.ai/v2/<endpoint>/job-done/$RUNPOD_POD_ID/$ID";
const STREAM_FORM: &str =
    "a URL such as https://api.runpod.ai/v2/<endpoint>/job-stream/$RUNPOD_POD_ID/$ID";
const PING_FORM: &str = "a URL such as https://api.runpod.ai/v2/<endpoint>/ping/$RUNPOD_POD_ID";

impl Config {
    /// Reads the settings through `lookup`, which is the environment, or a table in tests. An empty variable counts
    /// as one that is not set.
    pub(crate) fn read(
        lookup: impl Fn(&str) -> Option<String>,
        streams: bool,
    ) -> Result<Self, Error> {
        let get = |name: &str| given(&lookup, name);
        let worker_id = get(env::POD_ID).unwrap_or_else(|| Uuid::new_v4().to_string());
        let remote = get(env::GET_JOB)
            .map(|take| Remote::read(&get, &take, &worker_id, streams))
            .transpose()?;
        Ok(Self {
            identity: Identity {
                worker_id,
                hostname: get(env::POD_HOSTNAME).unwrap_or_else(|| "unknown".to_owned()),
            },
            remote,
            realtime: Realtime::read(&get)?,
            fitness: Some(Fitness::read(&get)?),
        })
    }
}

/// The official worker's default.
const MIN_DISK_PERCENT: f64 = 10.0;

impl Fitness {
    fn read(get: &impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let is_true = |name| get(name).is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
        let amount = |variable, unset| match get(variable) {
            None => Ok(unset),
            Some(value) => match value.trim().parse::<f64>() {
                Ok(amount) if amount.is_finite() && amount >= 0.0 => Ok(amount),
                _ => Err(Error::MalformedVariable {
                    variable,
                    value,
                    problem: "no number of 0 or more".to_owned(),
                    expected: "a number, such as 4.5",
                }),
            },
        };
        Ok(Self {
            // The official worker asks for 4 GiB of the whole machine. Here the container's own limit counts, and
            // small ones are no less fit.
            min_memory_gb: amount(env::MIN_MEMORY_GB, 0.0)?,
            min_disk_percent: amount(env::MIN_DISK_PERCENT, MIN_DISK_PERCENT)?,
            skip_system: is_true(env::SKIP_AUTO_SYSTEM_CHECKS),
            skip_gpu: is_true(env::SKIP_GPU_CHECK),
            // Set by the platform, not by the user: what is no number is none of their business.
            gpus: get(env::GPU_COUNT).and_then(|count| count.trim().parse().ok()),
        })
    }
}

/// A variable, unless it is blank.
pub(crate) fn given(lookup: impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    lookup(name).filter(|value| !value.trim().is_empty())
}

/// The first of these variables that is set, and its value.
#[cfg(any(feature = "upload", feature = "otel"))]
pub(crate) fn first_given(
    lookup: impl Fn(&str) -> Option<String>,
    names: &[&'static str],
) -> Option<(&'static str, String)> {
    names
        .iter()
        .find_map(|name| Some((*name, given(&lookup, name)?)))
}

/// A URL that cannot be used, but for what in it may be secret: what stands before its host, and its query.
#[cfg(any(feature = "download", feature = "upload", feature = "otel"))]
pub(crate) fn without_secrets(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    match url.rfind('@') {
        None => url[..end].to_owned(),
        Some(at) if at < end => format!("…{}", &url[at..end]),
        // Of a query, or behind a password with a `?` in it.
        Some(_) => "…".to_owned(),
    }
}

impl Realtime {
    fn read(get: &impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let Some(port) =
            whole_number(env::REALTIME_PORT, get(env::REALTIME_PORT), "a port number")?
        else {
            return Ok(None);
        };
        let jobs = get(env::REALTIME_CONCURRENCY);
        let jobs = whole_number(
            env::REALTIME_CONCURRENCY,
            jobs,
            "a number of jobs, such as 4",
        )?;
        let endpoint_id = get(env::ENDPOINT_ID).ok_or(Error::MissingVariable {
            variable: env::ENDPOINT_ID,
            because: "the realtime server answers at /<endpoint>/realtime",
            expected: "the endpoint's id",
        })?;
        Ok(Some(Self {
            port,
            concurrency: jobs.unwrap_or(1),
            endpoint_id,
        }))
    }
}

impl Remote {
    fn read(
        get: &impl Fn(&str) -> Option<String>,
        take: &str,
        worker_id: &str,
        streams: bool,
    ) -> Result<Self, Error> {
        let template = |variable, value: &str, expected| {
            let template = if variable == env::GET_JOB {
                UrlTemplate::of_take(value, worker_id)
            } else {
                UrlTemplate::of_worker(value, worker_id)
            };
            check_url(&template)
                .map(|()| template)
                .map_err(|problem| Error::MalformedVariable {
                    variable,
                    value: value.to_owned(),
                    problem,
                    expected,
                })
        };
        let needed = |variable, because, expected| {
            get(variable).ok_or(Error::MissingVariable {
                variable,
                because,
                expected,
            })
        };

        let done = needed(env::POST_OUTPUT, "results are posted there", DONE_FORM)?;
        let stream = if streams {
            Some(needed(
                env::POST_STREAM,
                "this handler streams its chunks there",
                STREAM_FORM,
            )?)
        } else {
            get(env::POST_STREAM)
        };
        Ok(Self {
            take: template(env::GET_JOB, take, TAKE_FORM)?,
            done: template(env::POST_OUTPUT, &done, DONE_FORM)?,
            stream: stream
                .map(|stream| template(env::POST_STREAM, &stream, STREAM_FORM))
                .transpose()?,
            ping: get(env::PING)
                .map(|ping| template(env::PING, &ping, PING_FORM))
                .transpose()?,
            ping_interval: ping_interval(get(env::PING_INTERVAL))?,
            authorization: get(env::API_KEY)
                .as_deref()
                .map(authorization)
                .transpose()?,
            user_agent: user_agent(get(env::UA_INTEGRATION))?,
        })
    }

    /// Whether any call goes over TLS.
    pub(crate) fn uses_tls(&self) -> bool {
        [
            Some(&self.take),
            Some(&self.done),
            self.stream.as_ref(),
            self.ping.as_ref(),
        ]
        .into_iter()
        .flatten()
        .any(|template| template.url().as_str().starts_with("https"))
    }
}

fn check_url(template: &UrlTemplate) -> Result<(), String> {
    let url: Uri = template
        .url()
        .as_str()
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
    match url.scheme_str() {
        Some("http" | "https") => Ok(()),
        Some(other) => Err(format!("`{other}` is not http or https")),
        None => Err("there is no http:// or https:// before it".to_owned()),
    }
}

fn ping_interval(value: Option<String>) -> Result<Duration, Error> {
    let millis = whole_number(env::PING_INTERVAL, value, "milliseconds, such as 10000")?;
    Ok(millis.map_or(limits::DEFAULT_PING_INTERVAL, Duration::from_millis))
}

/// A number above 0, where the variable is set.
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
            problem: "no whole number above 0 that fits".to_owned(),
            expected,
        }),
    }
}

fn authorization(key: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(key.trim())
        .map(|mut value| {
            value.set_sensitive(true);
            value
        })
        .map_err(|_| Error::MalformedVariable {
            variable: env::API_KEY,
            // A key is not to be shown.
            value: format!("({} characters)", key.chars().count()),
            problem: "it holds characters that no HTTP header can carry".to_owned(),
            expected: "the endpoint's key, in one line",
        })
}

fn user_agent(integration: Option<String>) -> Result<HeaderValue, Error> {
    let (version, os, arch) = (
        crate::version::VERSION,
        std::env::consts::OS,
        std::env::consts::ARCH,
    );
    let own = format!("podwork/{version} ({os}; {arch}) Language/Rust");
    let text = match &integration {
        Some(integration) => format!("{own} Integration/{integration}"),
        None => own,
    };
    HeaderValue::from_str(&text).map_err(|_| Error::MalformedVariable {
        variable: env::UA_INTEGRATION,
        value: integration.unwrap_or_default(),
        problem: "it holds characters that no HTTP header can carry".to_owned(),
        expected: "a plain name",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, &str)] = &[
        (env::GET_JOB, "http://h/v2/e/job-take/$ID?gpu=x"),
        (
            env::POST_OUTPUT,
            "http://h/v2/e/job-done/$RUNPOD_POD_ID/$ID?gpu=x",
        ),
        (
            env::POST_STREAM,
            "http://h/v2/e/job-stream/$RUNPOD_POD_ID/$ID?gpu=x",
        ),
        (env::PING, "http://h/v2/e/ping/$RUNPOD_POD_ID"),
        (env::POD_ID, "w1"),
        (env::API_KEY, "key"),
    ];

    /// The good environment with some variables set otherwise; an empty text unsets.
    fn read(changes: &[(&str, &str)]) -> Result<Config, Error> {
        let lookup = |name: &str| {
            let find = |table: &[(&str, &str)]| {
                table
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            find(changes).or_else(|| find(GOOD))
        };
        Config::read(lookup, true)
    }

    fn complaint(changes: &[(&str, &str)]) -> String {
        read(changes).unwrap_err().to_string()
    }

    #[test]
    fn the_platforms_variables() {
        let config = read(&[]).unwrap();
        let remote = config.remote.unwrap();
        assert_eq!(
            remote.take.url().as_str(),
            "http://h/v2/e/job-take/w1?gpu=x"
        );
        assert_eq!(
            remote.done.job("j").as_str(),
            "http://h/v2/e/job-done/w1/j?gpu=x"
        );
        assert_eq!(remote.ping_interval, Duration::from_secs(10));
        assert_eq!(remote.authorization.unwrap(), "key");
    }

    #[test]
    fn no_take_url_means_local() {
        assert!(read(&[(env::GET_JOB, "")]).unwrap().remote.is_none());
    }

    #[test]
    fn a_realtime_port_has_the_worker_serve() {
        assert_eq!(read(&[]).unwrap().realtime, None);
        let port = (env::REALTIME_PORT, "9000");
        assert!(complaint(&[port]).starts_with("RUNPOD_ENDPOINT_ID is not set"));
        let config = read(&[
            port,
            (env::REALTIME_CONCURRENCY, "3"),
            (env::ENDPOINT_ID, "e"),
        ]);
        let expected = Realtime {
            port: 9000,
            concurrency: 3,
            endpoint_id: "e".to_owned(),
        };
        assert_eq!(config.unwrap().realtime, Some(expected));
    }

    #[test]
    fn what_the_machine_must_offer() {
        let fitness = |changes| read(changes).unwrap().fitness.unwrap();
        let unset = Fitness {
            min_memory_gb: 0.0,
            min_disk_percent: 10.0,
            skip_system: false,
            skip_gpu: false,
            gpus: None,
        };
        assert_eq!(fitness(&[]), unset);
        let set = [
            (env::MIN_MEMORY_GB, "31.5"),
            (env::MIN_DISK_PERCENT, "0"),
            (env::SKIP_AUTO_SYSTEM_CHECKS, "True"),
            (env::SKIP_GPU_CHECK, "true"),
            (env::GPU_COUNT, "2"),
        ];
        let expected = Fitness {
            min_memory_gb: 31.5,
            min_disk_percent: 0.0,
            skip_system: true,
            skip_gpu: true,
            gpus: Some(2),
        };
        assert_eq!(fitness(&set), expected);
        assert!(complaint(&[(env::MIN_MEMORY_GB, "4 GB")]).contains("is `4 GB`: no number of 0"));
    }

    #[test]
    fn no_worker_id_means_a_random_one() {
        let id = |config: Config| config.identity.worker_id;
        let unset: &[(&str, &str)] = &[(env::POD_ID, "")];
        assert_ne!(id(read(unset).unwrap()), id(read(unset).unwrap()));
    }

    #[test]
    fn what_is_missing_or_malformed_is_named_with_its_mend() {
        assert_eq!(
            complaint(&[(env::POST_OUTPUT, "")]),
            "RUNPOD_WEBHOOK_POST_OUTPUT is not set, and results are posted there; set it to a URL such as \
             https://api.runpod.ai/v2/<endpoint>/job-done/$RUNPOD_POD_ID/$ID"
        );
        assert!(complaint(&[(env::POST_STREAM, "")]).contains("this handler streams"));
        assert!(complaint(&[(env::GET_JOB, "job-take")]).starts_with(
            "RUNPOD_WEBHOOK_GET_JOB is `job-take`: there is no http:// or https:// before it; set it to a URL"
        ));
        assert!(complaint(&[(env::PING, "ftp://h/ping")]).contains("`ftp` is not http or https"));
        assert!(complaint(&[(env::PING_INTERVAL, "10s")]).contains("is `10s`: no whole number"));
        assert!(complaint(&[(env::PING_INTERVAL, "0")]).contains("above 0"));
        assert!(complaint(&[(env::REALTIME_PORT, "70000")]).contains("a port number"));
        let key = complaint(&[(env::API_KEY, "se\ncret")]);
        assert!(
            key.contains("(7 characters)") && !key.contains("cret"),
            "{key}"
        );
    }
}
