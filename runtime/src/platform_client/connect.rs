//! Connections to the platform, direct or through a proxy.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::net::resolver::Resolver;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects to a host, either directly or through the proxy that is configured for it.
#[derive(Debug, Clone)]
pub(super) struct ProxyConnector {
    direct: HttpConnector<Resolver>,
    /// The connector to proxies, which may themselves use TLS.
    to_proxy: HttpsConnector<HttpConnector<Resolver>>,
    proxies: Option<Arc<Matcher>>,
}

impl ProxyConnector {
    pub(super) fn new(
        direct: HttpConnector<Resolver>,
        to_proxy: HttpsConnector<HttpConnector<Resolver>>,
        proxies: Option<Matcher>,
    ) -> Self {
        Self {
            direct,
            to_proxy,
            proxies: proxies.map(Arc::new),
        }
    }

    /// Returns the `Proxy-Authorization` header for a request that a proxy forwards without a tunnel.
    pub(super) fn authorization(&self, to: &Uri) -> Option<HeaderValue> {
        if to.scheme_str() != Some("http") {
            return None;
        }
        let proxy = self.proxies.as_ref()?.intercept(to)?;
        proxy.basic_auth().cloned()
    }
}

impl Service<Uri> for ProxyConnector {
    type Response = ProxyStream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<ProxyStream, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let proxies = self.proxies.as_ref();
        let Some(proxy) = proxies.and_then(|proxies| proxies.intercept(&to)) else {
            let connecting = self.direct.call(to);
            return Box::pin(async {
                Ok(ProxyStream {
                    stream: MaybeHttpsStream::Http(connecting.await?),
                    is_proxied: false,
                })
            });
        };
        if to.scheme_str() == Some("https") {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy.clone());
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            let connecting = tunnel.call(to);
            // Inside the tunnel, requests are the same as without a proxy.
            return Box::pin(async {
                Ok(ProxyStream {
                    stream: connecting.await?,
                    is_proxied: false,
                })
            });
        }
        let connecting = self.to_proxy.call(proxy.uri().clone());
        Box::pin(async {
            Ok(ProxyStream {
                stream: connecting.await?,
                is_proxied: true,
            })
        })
    }
}

/// A connection to a host or to a proxy.
pub(super) struct ProxyStream {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Requests contain the full URL, so that the proxy can connect to the host.
    is_proxied: bool,
}

impl Connection for ProxyStream {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.is_proxied)
    }
}

impl Read for ProxyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for ProxyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
