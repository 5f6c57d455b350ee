//! The HTTP client of downloads, uploads and traces: reqwest with the [address guard](AddressGuard) and our TLS
//! configuration.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Request, Response, Url};

use crate::net::failure::permanent;
use crate::net::http::chain;
use crate::net::proxy::Proxies;
use crate::net::public_only::{AddressGuard, PrivateAddress};
use crate::net::tls;

/// The maximum time to connect, over all addresses of a host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The default `User-Agent`.
#[cfg(any(feature = "download", feature = "upload"))]
pub(crate) const AGENT: &str = concat!("podwork/", env!("CARGO_PKG_VERSION"));

/// Sends requests to addresses that the guard allows.
#[derive(Debug, Clone)]
pub(crate) struct GuardedClient {
    client: Client,
    guard: AddressGuard,
    /// The reason why TLS connections are impossible, if they are.
    no_tls: Option<String>,
}

/// The settings of a client. It honours the proxies of the environment only if its guard allows all addresses.
#[derive(Debug)]
pub(crate) struct ClientSettings {
    pub(crate) guard: AddressGuard,
    /// Loads the CA certificates. This blocks for some milliseconds the first time.
    pub(crate) tls: bool,
    /// The redirects to follow automatically.
    pub(crate) redirects: Policy,
    /// Keeps idle connections for further requests.
    pub(crate) keep_alive: bool,
}

/// The reason why there is no response.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// The host has an address that the guard rejects.
    Private(PrivateAddress),
    /// No trusted CA certificates are available.
    NoTls(String),
    /// The connection failed for a reason that a retry does not change.
    Permanent(String),
    /// The server is unreachable, or the connection broke.
    Failed(String),
}

impl GuardedClient {
    /// Creates a client. May block; see [`ClientSettings::tls`].
    pub(crate) fn new(settings: ClientSettings) -> Self {
        let (tls, no_tls) = match settings.tls.then(tls::config) {
            Some(Ok(config)) => (config, None),
            Some(Err(why)) => (tls::trusting_nobody(), Some(why)),
            None => (tls::trusting_nobody(), None),
        };
        let mut client = base()
            .tls_backend_preconfigured(tls)
            .dns_resolver(settings.guard.clone())
            .redirect(settings.redirects)
            .pool_max_idle_per_host(if settings.keep_alive { usize::MAX } else { 0 });
        // A proxy connects to any address and so bypasses the guard.
        if settings.guard.allows_all() {
            for proxy in Proxies::of_process().for_reqwest() {
                client = client.proxy(proxy);
            }
        }
        Self {
            client: client.build().expect("these settings are valid"),
            guard: settings.guard,
            no_tls,
        }
    }

    /// Returns the reason why TLS connections are impossible, if they are.
    #[cfg(any(feature = "upload", feature = "otel"))]
    pub(crate) fn no_tls(&self) -> Option<&str> {
        self.no_tls.as_deref()
    }

    /// Sends a request, after the guard has checked its host, be it a name or an address.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, FetchError> {
        // The resolver is not called for a host that is an address.
        self.guard
            .check(request.url())
            .map_err(FetchError::Private)?;
        if is_https(request.url())
            && let Some(why) = &self.no_tls
        {
            return Err(FetchError::NoTls(why.clone()));
        }
        let response = self.client.execute(request).await;
        response.map_err(|error| match PrivateAddress::behind(&error) {
            Some(refused) => FetchError::Private(refused),
            None => match permanent(&error) {
                Some(why) => FetchError::Permanent(why),
                None => FetchError::Failed(causes(&error)),
            },
        })
    }
}

/// Returns a builder with all automatic behaviour of reqwest turned off, such as decompression, retries and proxies.
/// Other crates of the program may have enabled such features. Like curl, it tolerates malformed headers.
fn base() -> ClientBuilder {
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http1_only()
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .referer(false)
        .retry(reqwest::retry::never())
}

fn is_https(url: &Url) -> bool {
    url.scheme() == "https"
}

/// Returns the causes of an error, without the error's own message: it contains the URL, whose query may be secret.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    match error.source() {
        Some(cause) => chain(cause),
        None if error.is_timeout() => "timed out".to_owned(),
        None => "the request failed".to_owned(),
    }
}
