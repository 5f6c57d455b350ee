use std::time::Duration;

use http::uri::InvalidUri;
use http::{HeaderValue, Uri};
use podwork_protocol::template::UrlTemplate;
use podwork_protocol::{env, limits};

use crate::error::Error;

use super::whole_number;

const TAKE_URL: &str = "a URL such as https://api.runpod.ai/v2/<endpoint>/job-take/$ID";
const DONE_URL: &str =
    "a URL such as https://api.runpod.ai/v2/<endpoint>/job-done/$RUNPOD_POD_ID/$ID";
const STREAM_URL: &str =
    "a URL such as https://api.runpod.ai/v2/<endpoint>/job-stream/$RUNPOD_POD_ID/$ID";
const PING_URL: &str = "a URL such as https://api.runpod.ai/v2/<endpoint>/ping/$RUNPOD_POD_ID";

/// The platform to poll: its URLs, and the headers of each call.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) take: UrlTemplate,
    pub(crate) done: UrlTemplate,
    /// `None`: the handler yields no chunks, and the platform has no URL for them.
    pub(crate) stream: Option<UrlTemplate>,
    /// `None`: no heartbeat.
    pub(crate) ping: Option<UrlTemplate>,
    pub(crate) ping_interval: Duration,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) user_agent: HeaderValue,
}

impl Remote {
    /// Reads the platform's variables. Returns `None` if no URL to poll is set.
    pub(super) fn read(
        get: &impl Fn(&str) -> Option<String>,
        worker_id: &str,
        streams: bool,
    ) -> Result<Option<Self>, Error> {
        let Some(take) = get(env::GET_JOB) else {
            return Ok(None);
        };
        let required = |variable, because, expected| {
            get(variable).ok_or(Error::MissingVariable {
                variable,
                because,
                expected,
            })
        };
        let because = "the worker posts results to this URL";
        let done = required(env::POST_OUTPUT, because, DONE_URL)?;
        let stream = if streams {
            let because = "this handler streams chunks to this URL";
            Some(required(env::POST_STREAM, because, STREAM_URL)?)
        } else {
            get(env::POST_STREAM)
        };
        let template = |variable, expected, url: &str| {
            check(UrlTemplate::of_worker(url, worker_id))
                .map_err(malformed(variable, url, expected))
        };
        Ok(Some(Self {
            take: check(UrlTemplate::of_take(&take, worker_id)).map_err(malformed(
                env::GET_JOB,
                &take,
                TAKE_URL,
            ))?,
            done: template(env::POST_OUTPUT, DONE_URL, &done)?,
            stream: stream
                .map(|stream| template(env::POST_STREAM, STREAM_URL, &stream))
                .transpose()?,
            ping: get(env::PING)
                .map(|ping| template(env::PING, PING_URL, &ping))
                .transpose()?,
            ping_interval: ping_interval(get(env::PING_INTERVAL))?,
            authorization: get(env::API_KEY)
                .as_deref()
                .map(authorization)
                .transpose()?,
            user_agent: user_agent(get(env::UA_INTEGRATION))?,
        }))
    }

    /// Returns whether any call uses TLS.
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

/// Returns the template if it expands to a valid URL, or else the reason why not.
fn check(template: UrlTemplate) -> Result<UrlTemplate, String> {
    let url = template.url();
    let url: Uri = url
        .as_str()
        .parse()
        .map_err(|error: InvalidUri| error.to_string())?;
    match url.scheme_str() {
        Some("http" | "https") => Ok(template),
        Some(other) => Err(format!("`{other}` is not http or https")),
        None => Err("the URL does not start with http:// or https://".to_owned()),
    }
}

fn malformed(
    variable: &'static str,
    value: &str,
    expected: &'static str,
) -> impl FnOnce(String) -> Error {
    move |problem| Error::MalformedVariable {
        variable,
        value: value.to_owned(),
        problem,
        expected,
    }
}

fn ping_interval(value: Option<String>) -> Result<Duration, Error> {
    let expected = "a number of milliseconds, such as 10000";
    let millis = whole_number(env::PING_INTERVAL, value, expected)?;
    Ok(millis.map_or(limits::DEFAULT_PING_INTERVAL, Duration::from_millis))
}

fn authorization(key: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(key.trim())
        .map(|mut value| {
            value.set_sensitive(true);
            value
        })
        .map_err(|_| Error::MalformedVariable {
            variable: env::API_KEY,
            // Never show the key itself.
            value: format!("({} characters)", key.chars().count()),
            problem: "it contains characters that are not allowed in an HTTP header".to_owned(),
            expected: "the API key of the endpoint, on one line",
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
        problem: "it contains characters that are not allowed in an HTTP header".to_owned(),
        expected: "a name in plain ASCII",
    })
}
