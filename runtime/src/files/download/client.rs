//! The HTTP client of downloads. It connects to checked addresses only, and follows redirects one by one.

use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Method, Request, Response, Url};
use tokio::time::timeout;

use crate::net::client::{AGENT, ClientSettings, FetchError, GuardedClient};
use crate::net::public_only::AddressGuard;

use super::address::{checked, shown};
use super::error::DownloadError;

/// The maximum number of redirects of one download.
const MAX_REDIRECTS: usize = 5;

/// The client of one or more concurrent downloads.
#[derive(Clone)]
pub(super) struct FileClient(GuardedClient);

/// The cause of a failed attempt.
pub(super) enum DownloadFailure {
    /// The next attempt may succeed.
    Retryable {
        why: String,
        /// The pause that the server requests.
        after: Option<Duration>,
    },
    /// No further attempt can succeed.
    Final(DownloadError),
}

impl From<DownloadError> for DownloadFailure {
    fn from(error: DownloadError) -> Self {
        Self::Final(error)
    }
}

impl From<std::io::Error> for DownloadFailure {
    fn from(error: std::io::Error) -> Self {
        Self::Final(DownloadError::disk(error))
    }
}

impl DownloadFailure {
    pub(super) fn retryable(why: impl Into<String>) -> Self {
        let (why, after) = (why.into(), None);
        Self::Retryable { why, after }
    }
}

impl FileClient {
    /// Creates a client. Blocks while it loads certificates.
    pub(super) fn new(guard: AddressGuard) -> Self {
        Self(GuardedClient::new(ClientSettings {
            guard,
            tls: true,
            // `get` follows redirects, so that each target is checked.
            redirects: Policy::none(),
            keep_alive: false,
        }))
    }

    /// Requests `url` and follows redirects. Each response must begin within `idle_timeout`. The `own` headers of the
    /// file may be secrets: they are sent until the first redirect to another scheme, host or port.
    pub(super) async fn get(
        &self,
        url: &Url,
        own: &HeaderMap,
        headers: &HeaderMap,
        idle_timeout: Duration,
    ) -> Result<Response, DownloadFailure> {
        let mut next = url.clone();
        let mut all = own.clone();
        all.extend(headers.clone());
        for _ in 0..=MAX_REDIRECTS {
            let answer = timeout(idle_timeout, self.ask(&next, &all)).await;
            let answer = answer.map_err(|_| {
                DownloadFailure::retryable(format!(
                    "the server did not respond within {idle_timeout:?}"
                ))
            })??;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let to = redirected(url, &next, answer.headers())?;
            if to.origin() != next.origin() {
                all.clone_from(headers);
            }
            next = to;
        }
        Err(DownloadFailure::Final(DownloadError::Redirect {
            url: shown(url),
            problem: format!("redirected more than {MAX_REDIRECTS} times"),
        }))
    }

    async fn ask(&self, url: &Url, headers: &HeaderMap) -> Result<Response, DownloadFailure> {
        let mut request = Request::new(Method::GET, url.clone());
        *request.headers_mut() = headers.clone();
        let all = request.headers_mut();
        for (name, value) in [(USER_AGENT, AGENT), (ACCEPT, "*/*")] {
            all.entry(name).or_insert(HeaderValue::from_static(value));
        }
        // No compression, so that the length and the checksum are those of the file.
        all.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let answer = self.0.send(request).await;
        answer.map_err(|error| match error {
            FetchError::Private(refused) => DownloadFailure::Final(DownloadError::Private {
                url: shown(url),
                source: refused.into(),
            }),
            FetchError::NoTls(why) => DownloadFailure::Final(DownloadError::Tls(why)),
            FetchError::Permanent(why) => DownloadFailure::Final(DownloadError::Unreachable {
                url: shown(url),
                why,
            }),
            FetchError::Failed(why) => DownloadFailure::retryable(why),
        })
    }
}

/// Returns the target of a redirect. It must meet the same rules as the first URL.
fn redirected(first: &Url, from: &Url, headers: &HeaderMap) -> Result<Url, DownloadError> {
    let refuse = |problem: String| DownloadError::Redirect {
        url: shown(first),
        problem,
    };
    let to = headers
        .get(LOCATION)
        .ok_or_else(|| refuse("a redirect has no `Location` header".to_owned()))?;
    let to = std::str::from_utf8(to.as_bytes()).ok();
    let to = to.and_then(|to| from.join(to).ok());
    let to = to.ok_or_else(|| refuse("a redirect has an invalid URL".to_owned()))?;
    checked(to).map_err(|error| refuse(format!("a redirect was refused: {error}")))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::public_only::only_one;

    /// Answers each request with a redirect to `to`, in which `PORT` stands for the server's port.
    async fn redirecting(to: &'static str) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = to.replace("PORT", &port.to_string());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.unwrap() > 2 {
                    line.clear();
                }
                let answer = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap()
    }

    async fn refused(to: &'static str) -> DownloadError {
        let url = redirecting(to).await;
        let client = FileClient::new(only_one());
        let idle_timeout = Duration::from_secs(10);
        let none = HeaderMap::new();
        match client.get(&url, &none, &none, idle_timeout).await {
            Err(DownloadFailure::Final(error)) => error,
            Err(DownloadFailure::Retryable { why, .. }) => panic!("{to}: {why}"),
            Ok(answer) => panic!("{to}: {answer:?}"),
        }
    }

    #[tokio::test]
    async fn a_redirect_is_checked_like_the_first_url() {
        for to in [
            "http://127.0.0.2:PORT/",
            "http://127.2:PORT/",
            "http://0x7f000002:PORT/",
            "http://[::1]:PORT/",
            "http://[::ffff:127.0.0.2]:PORT/",
            "http://169.254.169.254/latest/meta-data",
            "//10.0.0.1/",
            "https://192.168.0.1/",
        ] {
            let error = refused(to).await;
            assert!(
                matches!(error, DownloadError::Private { .. }),
                "{to}: {error}"
            );
        }
        for to in [
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
            "http://a:b@127.0.0.1/",
        ] {
            let error = refused(to).await;
            assert!(
                matches!(error, DownloadError::Redirect { .. }),
                "{to}: {error}"
            );
        }
    }
}
