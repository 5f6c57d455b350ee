//! The HTTP client of the tests.

/// Creates an HTTP client that ignores proxies.
///
/// # Panics
/// Panics if the client cannot be created.
#[must_use]
pub fn client() -> reqwest::Client {
    // The runtime builds reqwest without a TLS provider. An error means that one is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy();
    builder.build().expect("an HTTP client")
}
