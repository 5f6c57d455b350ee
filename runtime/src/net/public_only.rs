//! Connections to none but addresses that were checked.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::net::address::is_public;

/// How long it may take to connect, over all addresses of a host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most addresses of a host that are tried.
const MOST_ADDRESSES: usize = 8;

type Resolved = BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

/// Connects the HTTP client. A host is resolved once; what came of that is checked, and connected to, so there is no
/// second answer that could differ.
#[derive(Clone)]
pub(crate) struct Guard {
    /// Which addresses are good.
    is_good: fn(IpAddr) -> bool,
    resolve: Arc<dyn Fn(String, u16) -> Resolved + Send + Sync>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoConnection {
    /// One of the host's addresses is not public.
    #[error("{0} is not a public address")]
    Private(IpAddr),
    #[error("its name cannot be resolved: {0}")]
    Unresolved(io::Error),
    #[error("{0}")]
    Unreachable(io::Error),
}

impl Guard {
    /// Lets only public addresses pass, unless private ones are allowed, too.
    pub(crate) fn new(allow_private: bool) -> Self {
        let is_good = if allow_private { |_| true } else { is_public };
        Self::resolving(is_good, |host, port| {
            async move {
                let addresses = tokio::net::lookup_host((host, port)).await?;
                Ok(addresses.collect())
            }
            .boxed()
        })
    }

    fn resolving(
        is_good: fn(IpAddr) -> bool,
        resolve: impl Fn(String, u16) -> Resolved + Send + Sync + 'static,
    ) -> Self {
        let resolve = Arc::new(resolve);
        Self { is_good, resolve }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, NoConnection> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let mut addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => (self.resolve)(host.to_owned(), port)
                .await
                .map_err(NoConnection::Unresolved)?,
        };
        // A host with public and private addresses is no better than one with private ones.
        let private = addresses
            .iter()
            .find(|address| !(self.is_good)(address.ip()));
        if let Some(private) = private {
            return Err(NoConnection::Private(private.ip().to_canonical()));
        }
        addresses.truncate(MOST_ADDRESSES);
        first_reachable(&addresses).await.map(TokioIo::new)
    }
}

/// One address after the other, since not each can be reached from everywhere.
async fn first_reachable(addresses: &[SocketAddr]) -> Result<TcpStream, NoConnection> {
    let mut last = io::Error::other("its name has no address");
    for address in addresses {
        let share = CONNECT_TIMEOUT / u32::try_from(addresses.len()).unwrap_or(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(NoConnection::Unreachable(last))
}

impl Service<Uri> for Guard {
    type Response = TokioIo<TcpStream>;
    type Error = NoConnection;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.clone().connect(uri).boxed()
    }
}

/// Whether it is the guard who refused; why.
pub(crate) fn private(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused @ NoConnection::Private(_)) = error.downcast_ref() {
            return Some(refused.to_string());
        }
        cause = error.source();
    }
    None
}

/// A guard that lets one loopback address pass, as if it alone were public.
#[cfg(all(test, feature = "download"))]
pub(crate) fn only_one() -> Guard {
    let mut guard = Guard::new(false);
    guard.is_good = |address| address == IpAddr::from([127, 0, 0, 1]);
    guard
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    /// A guard whose resolver gives these answers, one after the other, and how often it was asked.
    fn guard(is_good: fn(IpAddr) -> bool, answers: &[&[&str]]) -> (Guard, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let parse = |answer: &&[&str]| -> Vec<IpAddr> {
            answer.iter().map(|ip| ip.parse().unwrap()).collect()
        };
        let answers: Vec<_> = answers.iter().map(parse).collect();
        let count = Arc::clone(&asked);
        let guard = Guard::resolving(is_good, move |_, port| {
            let answer = &answers[count.fetch_add(1, Ordering::Relaxed)];
            let addresses = answer.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
            futures::future::ready(Ok(addresses)).boxed()
        });
        (guard, asked)
    }

    async fn refused(guard: &Guard, url: &str) -> IpAddr {
        match guard.clone().connect(url.parse().unwrap()).await {
            Err(NoConnection::Private(address)) => address,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_name_is_good_only_if_all_its_addresses_are() {
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
    async fn what_was_checked_is_what_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Who asks twice gets another address, at which nobody listens.
        let (guard, asked) = guard(|_| true, &[&["127.0.0.1"], &["127.0.0.2"]]);
        let url = format!("http://files.example:{port}/").parse().unwrap();
        let stream = guard.connect(url).await.unwrap();
        let peer = stream.inner().peer_addr().unwrap();
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn addresses_that_cannot_be_reached_are_passed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (guard, _) = guard(|_| true, &[&["127.0.0.3", "127.0.0.1"]]);
        let url = format!("http://files.example:{port}/").parse().unwrap();
        guard.connect(url).await.unwrap();
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
