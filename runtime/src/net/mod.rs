//! The network layer: HTTP, TLS, proxies, the guard against private addresses, backoff, and checksums.

#[cfg(any(feature = "download", feature = "upload", feature = "otel"))]
mod address;
pub(crate) mod backoff;
#[cfg(any(feature = "download", feature = "upload", feature = "otel"))]
pub(crate) mod client;
pub(crate) mod http;
pub(crate) mod proxy;
#[cfg(any(feature = "download", feature = "upload", feature = "otel"))]
pub(crate) mod public_only;
#[cfg(any(feature = "download", all(feature = "cache", unix)))]
pub(crate) mod sha256;
pub(crate) mod tls;
