//! Connection failures: their causes, and those that a retry does not change.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};

/// The system's messages for a name without an address, as in the runtime. With any other message, such as the one for
/// an unreachable name server, the failure may pass.
const UNKNOWN_NAMES: [&str; 6] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "nodename nor servname provided, or not known",
    "No such host is known",
];

/// Returns the problem and how to fix it, if a call failed for a reason that a retry does not change: a certificate that
/// is not accepted, a server that expects TLS or does not use it, or a host name that does not exist.
pub(super) fn permanent(error: &(dyn StdError + 'static)) -> Option<String> {
    causes_of(error).find_map(|cause| match cause.downcast_ref::<TlsError>() {
        Some(error) => Some(tls_problem(error)),
        None => protocol_problem(&cause.to_string()).map(ToOwned::to_owned),
    })
}

/// Returns whether no program listens on the port.
pub(super) fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    causes_of(error).any(|cause| {
        let error = cause.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// Returns an error and its causes. Unlike `source`, this includes the error in an [`io::Error`].
fn causes_of<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        inner.map_or_else(|| error.source(), |inner| Some(inner))
    })
}

/// Recognizes the message of a failed lookup, or of a response that is not HTTP. Their types do not expose the reason.
fn protocol_problem(message: &str) -> Option<&'static str> {
    if message == "invalid HTTP version parsed" {
        return Some(
            "the server does not answer in HTTP; check the port, or use an https: URL if the server uses TLS",
        );
    }
    let system = message.strip_prefix("failed to lookup address information: ")?;
    let is_unknown = UNKNOWN_NAMES.iter().any(|text| system.starts_with(text));
    is_unknown.then_some("the host name does not exist; check its spelling")
}

fn tls_problem(error: &TlsError) -> String {
    match error {
        TlsError::InvalidCertificate(error) => format!(
            "the server's certificate is not accepted: {}",
            certificate_problem(error)
        ),
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not use TLS on this port; check the port, or use an http: URL"
                .to_owned()
        }
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a client certificate, which podwork does not support".to_owned()
        }
        TlsError::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server does not serve this host name over TLS".to_owned()
        }
        error => format!("the TLS connection failed: {error}"),
    }
}

fn certificate_problem(error: &CertificateError) -> String {
    let problem = match error {
        // A bad signature means that a trusted CA has the name of the issuer, but another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not issued by a CA that this machine trusts; add the certificate of its CA to those of this \
             machine, or on Linux to the file in SSL_CERT_FILE"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired; renew it, or correct the clock of this machine"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; correct the clock of this machine"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            return format!("{error}; use a host name that the certificate contains");
        }
        // The type of this error is private to rustls.
        CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
            "it is a CA certificate (CA:TRUE), which is not valid as a server's own certificate; create a \
             self-signed certificate with CA:FALSE, or issue one for the server from this CA"
        }
        error => return error.to_string(),
    };
    problem.to_owned()
}
