//! TLS with ring, and the CA certificates that the operating system trusts.

use std::sync::OnceLock;

use hyper_rustls::ConfigBuilderExt as _;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// Returns the configuration of TLS connections. The first call loads the CA certificates, which takes some
/// milliseconds.
pub(crate) fn config() -> Result<ClientConfig, String> {
    static CONFIG: OnceLock<Result<ClientConfig, String>> = OnceLock::new();
    let make = || {
        let config = builder().try_with_platform_verifier();
        let config = config.map_err(|error| format!("{error}{}", own_file()))?;
        Ok(config.with_no_client_auth())
    };
    CONFIG.get_or_init(make).clone()
}

/// Names the file that replaces the system's CA certificates, if it is set.
fn own_file() -> String {
    match std::env::var_os("SSL_CERT_FILE") {
        Some(file) => format!(
            "; SSL_CERT_FILE is `{}`, which cannot be read or contains no certificate in PEM",
            file.display()
        ),
        None => String::new(),
    }
}

/// Returns a configuration that trusts no certificate, for clients that do not use TLS. It does not load or require CA
/// certificates.
pub(crate) fn trusting_nobody() -> ClientConfig {
    builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// Makes ring the default provider of rustls in this program, unless it has one. rustls chooses a default only if
/// exactly one provider is compiled in, and this crate brings ring in addition to that of the program.
pub(crate) fn install_default_provider() {
    if CryptoProvider::get_default().is_none() {
        // An error means that another thread has just installed one.
        let _ = ring::default_provider().install_default();
    }
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
}
