//! Connections: TLS, proxies, hostile peers, and the exports of metrics and traces.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

#[cfg(any(feature = "download", feature = "upload", feature = "otel"))]
mod certificate;
mod hostile;
#[cfg(all(feature = "download", feature = "upload"))]
mod https;
#[cfg(all(feature = "download", feature = "upload"))]
mod lenient;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "otel")]
mod otel;
#[cfg(all(
    target_os = "linux",
    feature = "download",
    feature = "upload",
    feature = "otel"
))]
mod proxies;
#[cfg(all(feature = "download", feature = "upload"))]
mod transfers;
