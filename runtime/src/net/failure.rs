//! Connection failures: their reasons, and those that a retry does not change.

use std::error::Error as StdError;

use podwork_protocol::failure;

use crate::net::http::chain;

/// The place for the certificate of a CA that the worker does not trust.
const ADD_CA: &str = "the image, or to the file in SSL_CERT_FILE";

/// Returns the problem and how to fix it, if the connection failed for a reason that a retry does not change; see
/// [`failure::permanent`].
pub(crate) fn permanent(error: &(dyn StdError + 'static)) -> Option<String> {
    failure::permanent(error, ADD_CA)
}

/// Returns the reason for a failure: the problem and how to fix it, or else the error with its causes.
pub(crate) fn reason(error: &(dyn StdError + 'static)) -> String {
    permanent(error).unwrap_or_else(|| chain(error))
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{CertificateError, Error as TlsError};

    use super::*;

    #[test]
    fn the_reason_is_the_problem_if_a_retry_does_not_change_it() {
        for (certificate, problem) in [
            (CertificateError::Expired, "it has expired; "),
            (
                CertificateError::UnknownIssuer,
                "it is not issued by a CA that this machine trusts; add the certificate of its CA to the image, or to \
                 the file in SSL_CERT_FILE",
            ),
        ] {
            let nested = io::Error::other(TlsError::InvalidCertificate(certificate));
            let why = permanent(&nested).unwrap();
            let expected = format!("the server's certificate is not accepted: {problem}");
            assert!(why.starts_with(&expected), "{why}");
            assert_eq!(reason(&nested), why);
        }
        assert_eq!(reason(&io::Error::other("it may pass")), "it may pass");
    }
}
