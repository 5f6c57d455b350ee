//! TLS by ring, with the certificates that the platform trusts.

use std::sync::OnceLock;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// Returns the configuration of TLS connections. Certificates are loaded once a process: that takes some milliseconds.
pub(crate) fn config() -> Result<ClientConfig, String> {
    static CONFIG: OnceLock<Result<ClientConfig, String>> = OnceLock::new();
    let make = || {
        let config = builder().try_with_platform_verifier();
        let config = config.map_err(|error| error.to_string())?;
        Ok(config.with_no_client_auth())
    };
    CONFIG.get_or_init(make).clone()
}

/// A configuration that trusts nobody, for clients that need no TLS: certificates need not be there, nor be loaded.
pub(crate) fn trusting_nobody() -> ClientConfig {
    builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = rustls::crypto::ring::default_provider();
    ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("this provider knows these versions")
}
