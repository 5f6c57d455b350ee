//! The guard that restricts a client to public addresses.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use podwork_protocol::address::is_public;
use podwork_protocol::failure::causes_of;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::net::resolver::resolve;

/// The maximum number of addresses of a host to try.
const MOST_ADDRESSES: usize = 8;

type LookUp = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// Resolves and checks the hosts of a client. It resolves a host once, and the client connects to the checked
/// addresses, so no second lookup can yield a different result. [`check`](Self::check) checks hosts that are addresses.
#[derive(Clone)]
pub(crate) struct AddressGuard {
    is_allowed: fn(IpAddr) -> bool,
    allows_all: bool,
    look_up: Arc<LookUp>,
}

/// The error for an address that the guard rejects because it is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a public address")]
pub(crate) struct PrivateAddress(IpAddr);

impl PrivateAddress {
    /// Finds this error among an error and its causes.
    pub(crate) fn behind(error: &(dyn StdError + 'static)) -> Option<Self> {
        causes_of(error).find_map(|cause| cause.downcast_ref().copied())
    }
}

impl AddressGuard {
    /// Creates a guard that allows public addresses only, or all addresses if `allow_private` is set.
    pub(crate) fn new(allow_private: bool) -> Self {
        let is_allowed = if allow_private { |_| true } else { is_public };
        let guard = Self::resolving(is_allowed, |host| {
            async move {
                let addresses = resolve(host).await?;
                Ok(addresses.map(|address| address.ip()).collect())
            }
            .boxed()
        });
        Self {
            allows_all: allow_private,
            ..guard
        }
    }

    /// Returns whether the guard allows all addresses.
    pub(crate) fn allows_all(&self) -> bool {
        self.allows_all
    }

    fn resolving(
        is_allowed: fn(IpAddr) -> bool,
        look_up: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static,
    ) -> Self {
        let look_up = Arc::new(look_up);
        Self {
            is_allowed,
            allows_all: false,
            look_up,
        }
    }

    /// Checks the host of a URL, if it is an address.
    pub(crate) fn check(&self, url: &Url) -> Result<(), PrivateAddress> {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match host.parse() {
            Ok(address) => self.allow(address),
            Err(_) => Ok(()),
        }
    }

    fn allow(&self, address: IpAddr) -> Result<(), PrivateAddress> {
        if (self.is_allowed)(address) {
            Ok(())
        } else {
            Err(PrivateAddress(address.to_canonical()))
        }
    }

    /// Resolves a host name. Rejects it if any of its addresses is private, even if others are public.
    async fn addresses(self, name: String) -> Result<Addrs, Box<dyn StdError + Send + Sync>> {
        let mut addresses = (self.look_up)(name).await?;
        for address in &addresses {
            self.allow(*address)?;
        }
        addresses.truncate(MOST_ADDRESSES);
        // The client replaces the port 0 with the port of the URL.
        let addresses = addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, 0));
        Ok(Box::new(addresses))
    }
}

impl Resolve for AddressGuard {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(self.clone().addresses(name.as_str().to_owned()))
    }
}

impl fmt::Debug for AddressGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressGuard").finish_non_exhaustive()
    }
}

/// Returns a guard that allows a single loopback address.
#[cfg(all(test, feature = "download"))]
pub(crate) fn only_one() -> AddressGuard {
    let mut guard = AddressGuard::new(false);
    guard.is_allowed = |address| address == IpAddr::from([127, 0, 0, 1]);
    guard
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use reqwest::redirect::Policy;
    use reqwest::{Method, Request, Response};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::time::timeout;

    use crate::net::client::{ClientSettings, FetchError, GuardedClient};

    use super::*;

    /// Returns a guard whose resolver gives these answers in order, and the number of lookups.
    fn guard(
        is_allowed: fn(IpAddr) -> bool,
        answers: &[&[&str]],
    ) -> (AddressGuard, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let parse = |answer: &&[&str]| -> Vec<IpAddr> {
            answer.iter().map(|ip| ip.parse().unwrap()).collect()
        };
        let answers: Vec<_> = answers.iter().map(parse).collect();
        let count = Arc::clone(&asked);
        let guard = AddressGuard::resolving(is_allowed, move |_| {
            let answer = answers[count.fetch_add(1, Ordering::Relaxed)].clone();
            futures::future::ready(Ok(answer)).boxed()
        });
        (guard, asked)
    }

    async fn get(guard: &AddressGuard, url: &str) -> Result<Response, FetchError> {
        let client = GuardedClient::new(ClientSettings {
            guard: guard.clone(),
            tls: false,
            redirects: Policy::none(),
            keep_alive: true,
        });
        let url = url.parse().unwrap();
        client.send(Request::new(Method::GET, url)).await
    }

    async fn refused(guard: &AddressGuard, url: &str) -> IpAddr {
        match get(guard, url).await {
            Err(FetchError::Private(PrivateAddress(address))) => address,
            other => panic!("{url}: {other:?}"),
        }
    }

    /// Answers one request on this address and port, and returns the port. With port 0, the system chooses one.
    async fn answering(address: &str, port: u16) -> u16 {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn a_name_is_refused_if_any_of_its_addresses_is_private() {
        for answer in [
            &["127.0.0.1"][..],
            &["8.8.8.8", "10.0.0.1"],
            &["10.0.0.1", "8.8.8.8"],
            &["2606:4700:4700::1111", "::1"],
            &["::ffff:192.168.0.1"],
            &["64:ff9b::a00:1"],
        ] {
            let (guard, _) = guard(is_public, &[answer]);
            refused(&guard, "http://files.example/").await;
        }
    }

    #[tokio::test]
    async fn the_checked_address_is_the_one_connected_to() {
        let port = answering("127.0.0.1", 0).await;
        // A second lookup would return another address, on which nobody listens.
        let (guard, asked) = guard(|_| true, &[&["127.0.0.1"], &["127.0.0.2"]]);
        let url = format!("http://files.example:{port}/");
        let response = get(&guard, &url).await.unwrap();
        let peer = response.remote_addr().unwrap();
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_a_permanent_failure() {
        for (message, is_permanent) in [
            ("Name or service not known", true),
            ("Temporary failure in name resolution", false),
        ] {
            let guard = AddressGuard::resolving(is_public, move |_| {
                let message = format!("failed to lookup address information: {message}");
                futures::future::ready(Err(io::Error::other(message))).boxed()
            });
            match get(&guard, "http://files.example/").await {
                Err(FetchError::Permanent(why)) if is_permanent => {
                    assert_eq!(why, "the host name does not exist; check its spelling");
                }
                Err(FetchError::Failed(why)) if !is_permanent => assert!(why.ends_with(message)),
                other => panic!("{message}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn unreachable_addresses_are_skipped() {
        for dead in ["127.0.0.3", "::1"] {
            let port = answering("127.0.0.1", 0).await;
            let (guard, _) = guard(|_| true, &[&[dead, "127.0.0.1"]]);
            let url = format!("http://files.example:{port}/");
            get(&guard, &url).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_silent_ipv6_address_does_not_delay_ipv4() {
        let Ok(listener) = TcpSocket::new_v6().and_then(|socket| {
            socket.bind("[::1]:0".parse().unwrap())?;
            socket.listen(1)
        }) else {
            // This machine does not support IPv6.
            return;
        };
        let silent = listener.local_addr().unwrap();
        // Nobody accepts, so once the backlog is full, the system stops answering.
        let mut waiting = Vec::new();
        let full = Duration::from_millis(200);
        while let Ok(stream) = timeout(full, TcpStream::connect(silent)).await {
            waiting.push(stream.unwrap());
        }
        let port = answering("127.0.0.1", silent.port()).await;
        let (guard, _) = guard(|_| true, &[&["::1", "127.0.0.1"]]);
        let url = format!("http://files.example:{port}/");
        let response = get(&guard, &url).await.unwrap();
        assert!(response.remote_addr().unwrap().is_ipv4());
    }

    #[tokio::test]
    async fn an_address_in_the_url_is_checked_like_a_resolved_one() {
        let (guard, asked) = guard(is_public, &[]);
        for url in ["http://127.0.0.1/", "http://[::1]/", "https://[fd00::1]:8/"] {
            refused(&guard, url).await;
        }
        let mapped = refused(&guard, "http://[::ffff:169.254.169.254]/").await;
        assert_eq!(mapped, IpAddr::from([169, 254, 169, 254]));
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }
}
