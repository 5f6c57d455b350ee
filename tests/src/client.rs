//! A client's side of the tests.

/// An HTTP client that reaches loopback directly.
///
/// # Panics
/// It cannot be made.
#[must_use]
pub fn client() -> reqwest::Client {
    // The runtime brings reqwest without a TLS provider of its own; an error means that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy();
    builder.build().expect("an HTTP client")
}
