//! Connection failures: those that a retry does not change.

use std::error::Error as StdError;
use std::io;

use podwork_protocol::failure::{self, causes_of};
use rustls::Error as TlsError;

/// The place for the certificate of a CA that the tool does not trust.
const ADD_CA: &str = "those of this machine, or on Linux to the file in SSL_CERT_FILE";

/// Returns the problem and how to fix it, if a call failed for a reason that a retry does not change: a failed TLS
/// connection, a server that expects TLS or does not use it, or a host name that does not exist.
pub(super) fn permanent(error: &(dyn StdError + 'static)) -> Option<String> {
    failure::permanent(error, ADD_CA).or_else(|| causes_of(error).find_map(other_problem))
}

/// Returns whether no program listens on the port.
pub(super) fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    causes_of(error).any(|cause| {
        let error = cause.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// Recognizes failures that a worker, which tries for longer, considers temporary.
fn other_problem(cause: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<TlsError>() {
        return Some(format!("the TLS connection failed: {error}"));
    }
    // The type of this error does not expose the reason.
    (cause.to_string() == "invalid HTTP version parsed").then(|| {
        "the server does not answer in HTTP; check the port, or use an https: URL if the server uses TLS".to_owned()
    })
}
