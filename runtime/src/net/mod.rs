//! The network layer: HTTP, TLS, proxies, the guard against private addresses, backoff, suspended machines, and
//! checksums.

pub(crate) mod backoff;
#[cfg(any(feature = "download", feature = "upload", feature = "otel"))]
pub(crate) mod client;
// Failures that a retry does not change.
pub(crate) mod failure;
pub(crate) mod http;
pub(crate) mod proxy;
#[cfg(any(feature = "download", feature = "upload", feature = "otel"))]
pub(crate) mod public_only;
pub(crate) mod resolver;
#[cfg(any(feature = "download", all(feature = "cache", unix)))]
pub(crate) mod sha256;
pub(crate) mod suspension;
pub(crate) mod tls;
