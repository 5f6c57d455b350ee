//! TLS with ring, and the CA certificates that the operating system trusts.

use std::sync::OnceLock;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// Returns the configuration of TLS connections. The first call loads the CA certificates, which takes some
/// milliseconds.
pub(crate) fn config() -> Result<ClientConfig, String> {
    static CONFIG: OnceLock<Result<ClientConfig, String>> = OnceLock::new();
    let make = || {
        let config = builder().try_with_platform_verifier();
        let config = config.map_err(|error| error.to_string())?;
        Ok(config.with_no_client_auth())
    };
    CONFIG.get_or_init(make).clone()
}

/// Returns a configuration that trusts no certificate, for clients that do not use TLS. It does not load or require CA
/// certificates.
pub(crate) fn trusting_nobody() -> ClientConfig {
    builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = rustls::crypto::ring::default_provider();
    ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
}
