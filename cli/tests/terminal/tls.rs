//! Tests of endpoints whose certificate is not accepted, or that do not use the scheme of their URL.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::common::{object, podwork};
use crate::doctor::last_finding;

/// A self-signed certificate for `localhost`, as a configuration of a server and in PEM.
fn certificate(change: impl FnOnce(&mut CertificateParams)) -> (Arc<ServerConfig>, String) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
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
    (config.into(), cert.pem())
}

/// An endpoint with TLS, or without it if there is no configuration. Its thread ends with the test's process.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start(config: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                match &config {
                    None => answer(stream),
                    Some(config) => {
                        let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                        answer(StreamOwned::<_, TcpStream>::new(connection, stream));
                    }
                }
            }
        });
        Self { port, connections }
    }
}

fn answer(mut stream: impl Read + Write) {
    // An error means that the client has rejected the certificate.
    if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
        let body = r#"{"workers":{"idle":3}}"#;
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let _ = stream.flush();
    }
}

/// Runs the tool with this trusted certificate, and returns the object that it prints.
fn run(folder: &Path, trusted: &str, args: &[&str]) -> Value {
    let file = folder.join("trusted");
    std::fs::write(&file, trusted).unwrap();
    let mut command = podwork(folder, args);
    object(&command.env("SSL_CERT_FILE", file).output().unwrap())
}

/// Returns the finding of `podwork doctor` about the endpoint.
fn finding(folder: &Path, trusted: &str, url: &str) -> Value {
    last_finding(&run(
        folder,
        trusted,
        &["doctor", "--json", "--endpoint", url],
    ))
}

#[test]
fn a_trusted_certificate_is_accepted() {
    let (config, pem) = certificate(|_| {});
    let server = Server::start(Some(config));
    let folder = tempfile::tempdir().unwrap();
    let url = format!("https://localhost:{}", server.port);
    let finding = finding(folder.path(), &pem, &url);
    assert!(
        finding["found"].as_str().unwrap().contains("idle: 3"),
        "{finding}"
    );
}

#[test]
fn a_connection_that_cannot_be_secure_is_explained_and_not_retried() {
    let (plain, plain_pem) = certificate(|_| {});
    let (_, other_pem) = certificate(|_| {});
    let (old, old_pem) = certificate(|params| params.not_after = date_time_ymd(2020, 1, 1));
    let (early, early_pem) = certificate(|params| params.not_before = date_time_ymd(4000, 1, 1));
    let rejected = "the server's certificate is not accepted: ";
    let folder = tempfile::tempdir().unwrap();
    for (config, host, trusted, why) in [
        (
            Some(&plain),
            "https://localhost",
            &other_pem,
            format!("{rejected}it is not issued by a CA that this machine trusts; add"),
        ),
        (
            Some(&plain),
            "https://127.0.0.1",
            &plain_pem,
            "use a host name that the certificate contains".to_owned(),
        ),
        (
            Some(&old),
            "https://localhost",
            &old_pem,
            format!("{rejected}it has expired; "),
        ),
        (
            Some(&early),
            "https://localhost",
            &early_pem,
            format!("{rejected}it is not valid yet; "),
        ),
        (
            None,
            "https://localhost",
            &plain_pem,
            "the server does not use TLS on this port; check the port, or use an http: URL"
                .to_owned(),
        ),
        (
            Some(&plain),
            "http://localhost",
            &plain_pem,
            "the server does not answer in HTTP; check the port, or use an https: URL".to_owned(),
        ),
    ] {
        let server = Server::start(config.cloned());
        let url = format!("{host}:{}", server.port);
        let args = ["invoke", "--json", "--endpoint", &url, "--data", "1"];
        let invoked = run(folder.path(), trusted, &args);
        let error = invoked["error"].as_str().unwrap();
        let finding = finding(folder.path(), trusted, &url);
        assert_eq!(finding["verdict"], "bad", "{finding}");
        assert!(!finding.to_string().contains("API_KEY"), "{finding}");
        for error in [error, finding["found"].as_str().unwrap()] {
            assert!(
                error.starts_with(&format!("cannot reach {url}: ")),
                "{error}"
            );
            assert!(error.contains(&why), "{error}");
            assert!(!error.contains("podwork dev"), "{error}");
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 2, "{error}");
    }
}

#[test]
fn a_host_that_does_not_exist_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let finding = finding(folder.path(), "", "http://no-such-host.invalid");
    let found = finding["found"].as_str().unwrap();
    // Without a name server, the lookup fails for another reason.
    assert!(
        found.contains("the host name does not exist; check its spelling")
            || found.contains("name resolution")
            || found.contains("Try again"),
        "{found}"
    );
}
