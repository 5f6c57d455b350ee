//! TLS servers with self-signed certificates.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

/// Returns a TLS acceptor with a self-signed certificate for `name`, and that certificate in PEM.
pub(crate) fn certified(name: &str) -> (TlsAcceptor, String) {
    certified_with(name, |_| {})
}

/// Returns the same as [`certified`], for a certificate with other properties.
pub(crate) fn certified_with(
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    change(&mut params);
    let signing_key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem())
}
