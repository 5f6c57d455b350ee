//! The network: the HTTP client, TLS, the guard against private addresses, backoff and checksums.

#[cfg(any(feature = "download", feature = "upload"))]
mod address;
pub(crate) mod backoff;
pub(crate) mod http;
#[cfg(any(feature = "download", feature = "upload"))]
pub(crate) mod public_only;
#[cfg(any(feature = "download", all(feature = "cache", unix)))]
pub(crate) mod sha256;
#[cfg(any(feature = "download", feature = "upload"))]
pub(crate) mod tls;
