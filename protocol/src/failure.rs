//! Connection failures: their causes, and those that a retry does not change. The worker and the tool explain them in
//! the same words.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};

/// The beginning of the standard library's message for a failed lookup. The system's message follows.
const LOOKUP_FAILED: &str = "failed to lookup address information: ";
/// The system's messages for a name without an address. The standard library does not expose the error code. With any
/// other message, such as the one for an unreachable name server, the failure may pass.
const UNKNOWN_NAMES: [&str; 6] = [
    "Name or service not known",                    // glibc, EAI_NONAME
    "No address associated with hostname",          // glibc, EAI_NODATA
    "Name does not resolve",                        // musl, EAI_NONAME
    "Name has no usable address",                   // musl, EAI_NODATA
    "nodename nor servname provided, or not known", // macOS and BSD
    "No such host is known",                        // Windows
];

/// Returns an error and its causes, the outermost first. Unlike `source`, this includes the error in an [`io::Error`].
pub fn causes_of<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        inner.map_or_else(|| error.source(), |inner| Some(inner))
    })
}

/// Returns the problem and how to fix it, if the connection failed for a reason that a retry does not change: a
/// certificate that is not accepted, a server without TLS, or a host name that does not exist. `add_ca` says where to
/// add the certificate of a CA that is not trusted.
pub fn permanent(error: &(dyn StdError + 'static), add_ca: &str) -> Option<String> {
    causes_of(error).find_map(|cause| match cause.downcast_ref::<TlsError>() {
        Some(error) => tls_problem(error, add_ca),
        None => unknown_name(&cause.to_string()),
    })
}

fn unknown_name(message: &str) -> Option<String> {
    let system = message.strip_prefix(LOOKUP_FAILED)?;
    let is_unknown = UNKNOWN_NAMES.iter().any(|text| system.starts_with(text));
    is_unknown.then(|| "the host name does not exist; check its spelling".to_owned())
}

fn tls_problem(error: &TlsError, add_ca: &str) -> Option<String> {
    let problem = match error {
        TlsError::InvalidCertificate(error) => {
            let problem = certificate_problem(error, add_ca);
            return Some(format!(
                "the server's certificate is not accepted: {problem}"
            ));
        }
        TlsError::NoCertificatesPresented => "the server has no certificate",
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not use TLS on this port; check the port, or use an http: URL"
        }
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a client certificate, which podwork does not support"
        }
        TlsError::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server does not serve this host name over TLS"
        }
        TlsError::PeerIncompatible(_)
        | TlsError::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        ) => {
            return Some(format!(
                "the server supports no TLS version or cipher that podwork supports (TLS 1.2 and 1.3): {error}"
            ));
        }
        _ => return None,
    };
    Some(problem.to_owned())
}

fn certificate_problem(error: &CertificateError, add_ca: &str) -> String {
    let problem = match error {
        // A bad signature means that a trusted CA has the name of the issuer, but another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            return format!(
                "it is not issued by a CA that this machine trusts; add the certificate of its CA to {add_ca}"
            );
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(message: &str) -> io::Error {
        io::Error::other(format!("{LOOKUP_FAILED}{message}"))
    }

    #[test]
    fn only_an_unknown_host_name_is_permanent() {
        for message in UNKNOWN_NAMES {
            let why = permanent(&lookup(message), "").unwrap();
            assert!(why.contains("does not exist"), "{message}: {why}");
        }
        for message in [
            "Temporary failure in name resolution",
            "Try again",
            "System error",
        ] {
            assert_eq!(permanent(&lookup(message), ""), None, "{message}");
        }
        // The name of a file, not of a host.
        assert_eq!(
            permanent(&io::Error::other("Name or service not known"), ""),
            None
        );
    }

    #[test]
    fn a_tls_error_is_found_inside_io_errors() {
        let expired = TlsError::InvalidCertificate(CertificateError::Expired);
        let nested = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, expired));
        let why = permanent(&nested, "").unwrap();
        assert!(
            why.starts_with("the server's certificate is not accepted: it has expired; "),
            "{why}"
        );
    }

    #[test]
    fn tls_failures_that_may_pass_are_not_permanent() {
        for error in [
            TlsError::DecryptError,
            TlsError::AlertReceived(AlertDescription::InternalError),
            TlsError::InvalidMessage(InvalidMessage::MessageTooShort),
        ] {
            assert_eq!(
                permanent(&io::Error::other(error.clone()), ""),
                None,
                "{error}"
            );
        }
    }
}
