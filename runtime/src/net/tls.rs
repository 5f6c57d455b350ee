//! TLS to whoever has files, or takes them.

use std::sync::{Arc, OnceLock};

use hyper_rustls::ConfigBuilderExt as _;
use rustls::ClientConfig;

use crate::net::http::tls_builder;

/// Loaded once: that takes some milliseconds.
pub(crate) fn tls() -> Result<Arc<ClientConfig>, String> {
    static TLS: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let make = || {
        let config = tls_builder().try_with_platform_verifier();
        let config = config.map_err(|error| error.to_string())?;
        Ok(Arc::new(config.with_no_client_auth()))
    };
    TLS.get_or_init(make).clone()
}
