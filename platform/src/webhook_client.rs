//! The HTTP client for webhook calls.

use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use podwork_protocol::address::{is_loopback_host, is_public};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::net::lookup_host;
use tokio::sync::OnceCell;

use crate::webhook_signature::Secret;

/// The timeout of one try.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends webhook calls. The HTTP clients are created on first use.
#[derive(Debug)]
pub(crate) struct WebhookClient {
    secret: Option<Secret>,
    public_only: bool,
    http: OnceCell<Client>,
    /// The client for receivers on this machine, which a proxy cannot reach.
    local: OnceCell<Client>,
}

impl WebhookClient {
    /// Creates the client. Signs calls if there is a secret. With `public_only`, calls go to public addresses only.
    pub(crate) fn new(secret: Option<Secret>, public_only: bool) -> Self {
        Self {
            secret,
            public_only,
            http: OnceCell::new(),
            local: OnceCell::new(),
        }
    }

    /// Makes one try. The error says why the receiver did not accept the call.
    pub(crate) async fn post(
        &self,
        url: &str,
        id: &str,
        traceparent: &str,
        body: Bytes,
    ) -> Result<(), String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        if self.public_only {
            check_literal(&url).map_err(|error| error.to_string())?;
        }
        // A proxy could reach private addresses.
        let (client, proxies) = if url.host_str().is_some_and(is_loopback_host) {
            (&self.local, false)
        } else {
            (&self.http, !self.public_only)
        };
        let http = client.get_or_try_init(async || self.create(proxies));
        let http = http.await.map_err(|error| reason(&error))?;
        let mut request = http
            .post(url)
            .header("Content-Type", "application/json")
            .header("traceparent", traceparent)
            .header("webhook-id", id);
        if let Some(secret) = &self.secret {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let timestamp = now.unwrap_or_default().as_secs();
            request = request
                .header("webhook-timestamp", timestamp)
                .header("webhook-signature", secret.sign(id, timestamp, &body));
        }
        let response = request.body(body).send().await;
        let response = response.map_err(|error| reason(&error))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => Err(format!(
                "unexpected status {status}: redirects are not followed"
            )),
            status => Err(format!("unexpected status {status}")),
        }
    }

    fn create(&self, proxies: bool) -> reqwest::Result<Client> {
        // An error means that the program has already installed a crypto provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A redirect would turn the call into a GET without its body, or lead it to an address that was not checked.
        let mut builder = Client::builder()
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            // Like curl, tolerate malformed headers: they must not repeat a delivered call.
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true);
        if !proxies {
            builder = builder.no_proxy();
        }
        if self.public_only {
            builder = builder.dns_resolver(PublicResolver);
        }
        builder.build()
    }
}

/// The error for a receiver whose address is not public.
#[derive(Debug)]
struct PrivateReceiver(IpAddr);

impl fmt::Display for PrivateReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not a public address: a platform that others can reach calls such webhooks only with \
             --allow-private-webhooks (of a worker: --rp_api_allow_private_webhooks)",
            self.0
        )
    }
}

impl StdError for PrivateReceiver {}

fn check_public(address: IpAddr) -> Result<(), PrivateReceiver> {
    if is_public(address) {
        return Ok(());
    }
    Err(PrivateReceiver(address.to_canonical()))
}

/// Checks a host that is an address, which a resolver never sees.
fn check_literal(url: &Url) -> Result<(), PrivateReceiver> {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse().map_or(Ok(()), check_public)
}

/// Resolves names whose addresses are all public. The client connects to these addresses, so no second lookup can
/// yield another one.
struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            for address in &addresses {
                check_public(address.ip())?;
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// Returns the causes of a failed call, without the error's own message: it contains the URL, whose query may be secret.
fn reason(error: &reqwest::Error) -> String {
    let first = error.source();
    let causes = std::iter::successors(first, |&cause| cause.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    match &causes[..] {
        [] if error.is_timeout() => "timed out".to_owned(),
        [] => "the request failed".to_owned(),
        causes => causes.join(": "),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Answers every call with the status in its path and a `Location`. Returns its URL and the heads of all calls.
    async fn receiver() -> (String, UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (calls, called) = unbounded_channel();
        let location = url.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                stream.read_exact(&mut [0; 2]).await.unwrap();
                let head = String::from_utf8(head).unwrap();
                let status = head.split(['/', ' ']).nth(2).unwrap();
                let answer = format!(
                    "HTTP/1.1 {status} S\r\nLocation: {location}200\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                calls.send(head).unwrap();
            }
        });
        (url, called)
    }

    #[tokio::test]
    async fn only_2xx_accepts_a_webhook_call_and_redirects_are_not_followed() {
        let (url, mut called) = receiver().await;
        let client = WebhookClient::new(None, false);
        let redirects = [300, 301, 302, 303, 307, 308];
        for status in [200, 201, 202, 204, 299, 400, 404, 500]
            .iter()
            .chain(&redirects)
        {
            let url = format!("{url}{status}");
            let answer = client.post(&url, "id", TRACE, Bytes::from("{}")).await;
            assert_eq!(
                answer.is_ok(),
                (200..300).contains(status),
                "{status}: {answer:?}"
            );
            let head = called.recv().await.unwrap();
            assert!(head.starts_with(&format!("POST /{status} ")), "{head}");
            if redirects.contains(status) {
                let error = answer.unwrap_err();
                assert!(error.ends_with("redirects are not followed"), "{error}");
            }
        }
        assert!(called.is_empty());
    }

    #[tokio::test]
    async fn only_a_platform_on_loopback_calls_private_addresses() {
        let client = WebhookClient::new(None, true);
        for url in [
            "http://127.0.0.1:1/",
            "http://[::1]:1/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest",
            "http://2130706433:1/",
            "http://0x7f.1:1/",
            "http://localhost:1/",
        ] {
            let error = client
                .post(url, "id", TRACE, Bytes::new())
                .await
                .unwrap_err();
            assert!(error.contains("is not a public address"), "{url}: {error}");
        }
        let client = WebhookClient::new(None, false);
        let error = client
            .post("http://127.0.0.1:1/", "id", TRACE, Bytes::new())
            .await;
        let error = error.unwrap_err();
        assert!(
            !error.contains("public address") && error.contains("refused"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_call_without_a_response_names_the_cause_and_not_the_url() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = listener.local_addr().unwrap();
        drop(listener);
        let client = WebhookClient::new(None, false);
        let url = format!("http://{closed}/?token=secret");
        let error = client
            .post(&url, "j.3", TRACE, Bytes::new())
            .await
            .unwrap_err();
        assert!(error.contains("Connection refused"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
