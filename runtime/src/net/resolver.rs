//! The resolution of host names.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::task::{Context, Poll};
use std::vec;

use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use crate::threads;

/// Resolves a host name with the system's resolver, which blocks, on a thread of its own. The ports are 0.
///
/// # Errors
/// Returns an error if the name cannot be resolved, or the system cannot start a thread. Tokio and hyper would panic.
pub(crate) fn resolve(
    host: String,
) -> impl Future<Output = io::Result<vec::IntoIter<SocketAddr>>> + Send {
    let resolving = threads::blocking(move || (host.as_str(), 0).to_socket_addrs());
    async { resolving.await? }
}

/// The resolver of the client for the platform.
#[derive(Debug, Clone)]
pub(crate) struct Resolver;

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(resolve(name.as_str().to_owned()))
    }
}
