//! The HTTP client of downloads, uploads and traces: reqwest, with the guard of addresses and our TLS.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Request, Response, Url};

use crate::net::http::chain;
use crate::net::proxy::Proxies;
use crate::net::public_only::{AddressGuard, PrivateAddress};
use crate::net::tls;

/// How long it may take to connect, over all addresses of a host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The product that requests name, where nothing else does.
#[cfg(any(feature = "download", feature = "upload"))]
pub(crate) const AGENT: &str = concat!("podwork/", env!("CARGO_PKG_VERSION"));

/// Sends requests to addresses that the guard allows.
#[derive(Debug, Clone)]
pub(crate) struct GuardedClient {
    client: Client,
    guard: AddressGuard,
    /// Why no TLS connection can be made, if none can.
    no_tls: Option<String>,
}

/// How a client differs from others. It honours the proxies of the environment only if its guard allows all addresses.
#[derive(Debug)]
pub(crate) struct ClientSettings {
    pub(crate) guard: AddressGuard,
    /// Whether certificates are loaded, which blocks for some milliseconds the first time.
    pub(crate) tls: bool,
    /// Which redirects are followed by themselves.
    pub(crate) redirects: Policy,
    /// Whether connections are kept for the next request.
    pub(crate) keep_alive: bool,
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// The host is at an address that the guard refuses.
    Private(PrivateAddress),
    /// There are no certificates to be trusted.
    NoTls(String),
    /// The server could not be reached, or the connection broke.
    Failed(String),
}

impl GuardedClient {
    /// Makes a client; see [`ClientSettings::tls`] for what may block.
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
        // A proxy connects to what it is told, past the guard.
        if settings.guard.allows_all() {
            for proxy in Proxies::of_process().for_reqwest() {
                client = client.proxy(proxy);
            }
        }
        Self {
            client: client
                .build()
                .expect("nothing in these settings can be refused"),
            guard: settings.guard,
            no_tls,
        }
    }

    /// Why no TLS connection can be made, if none can.
    #[cfg(any(feature = "upload", feature = "otel"))]
    pub(crate) fn no_tls(&self) -> Option<&str> {
        self.no_tls.as_deref()
    }

    /// Sends a request; its host is checked, whether it is a name or an address.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, FetchError> {
        // The resolver never sees a host that is an address.
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
            None => FetchError::Failed(causes(&error)),
        })
    }
}

/// A client that takes bytes as they come, and does what we ask for and nothing by itself, whatever features of reqwest
/// others in the program have enabled. It honours no proxy until it is told one.
fn base() -> ClientBuilder {
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http1_only()
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

/// The causes of an error, without the URL that the error itself shows: its query may be a secret.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    match error.source() {
        Some(cause) => chain(cause),
        None if error.is_timeout() => "it took too long".to_owned(),
        None => "the request failed".to_owned(),
    }
}
