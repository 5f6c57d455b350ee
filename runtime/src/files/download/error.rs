//! The error of downloads.

use std::error::Error as StdError;
use std::io;

/// The error of a download. It shows URLs without queries and passwords, which may be secrets.
///
/// ```
/// use podwork::files::{DownloadError, RemoteFile};
///
/// let refused = RemoteFile::new("ftp://example.com/a").unwrap_err();
/// assert!(matches!(refused, DownloadError::Url { .. }));
/// assert_eq!(
///     refused.to_string(),
///     "cannot download ftp://example.com/a: the scheme `ftp` is not http, https or data"
/// );
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The URL is invalid, or not allowed for downloads.
    #[error("cannot download {url}: {problem}")]
    Url {
        /// The URL, or its beginning.
        url: String,
        /// The reason.
        problem: String,
    },

    /// A text is neither a URL nor valid base64.
    #[error("cannot read the file in the input: it is neither a URL nor base64: {problem}")]
    Base64 {
        /// The reason why it is not base64.
        problem: String,
    },

    /// A request header is invalid or not allowed. The error never contains its value.
    #[error("invalid download header `{name}`: {problem}")]
    Header {
        /// The name of the header, or its beginning.
        name: String,
        /// The reason.
        problem: String,
    },

    /// The host is, or may be, inside a private network. The source contains its address. Clients see sources only if
    /// [`Worker::expose_error_details`](crate::Worker::expose_error_details) is set.
    #[error(
        "cannot download {url}: the host's address is not public; to allow such addresses, set \
         RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS=true on the worker"
    )]
    Private {
        /// The URL.
        url: String,
        /// The error that contains the address.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The server redirects too often, or to a URL that is invalid or not allowed.
    #[error("cannot download {url}: {problem}")]
    Redirect {
        /// The first URL, before any redirect.
        url: String,
        /// The reason.
        problem: String,
    },

    /// The server responded with a status that does not deliver the file.
    #[error("cannot download {url}: the server responded with status {status}{}", advice(*.status))]
    Status {
        /// The URL.
        url: String,
        /// The HTTP status code.
        status: u16,
    },

    /// The file exceeds the maximum size.
    #[error("cannot download {url}: larger than the limit of {limit} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The maximum size, in bytes.
        limit: u64,
    },

    /// No connection is possible, for a reason that a retry does not change: the host name does not exist, or the
    /// server's certificate is not accepted.
    #[error("cannot download {url}: {why}")]
    Unreachable {
        /// The URL.
        url: String,
        /// The reason, and how to fix it.
        why: String,
    },

    /// All attempts failed: the server could not be reached, closed the connection, or was too slow.
    #[error("failed to download {url} in {tries} attempts: {why}")]
    Broken {
        /// The URL.
        url: String,
        /// The number of attempts.
        tries: usize,
        /// The cause of the last failure.
        why: String,
    },

    /// The file does not have the expected checksum.
    #[error("checksum mismatch for {url}: expected SHA-256 {expected}, got {got}")]
    Checksum {
        /// The URL.
        url: String,
        /// The expected checksum.
        expected: String,
        /// The checksum of the received file.
        got: String,
    },

    /// The expected checksum is not a SHA-256 digest.
    #[error("invalid SHA-256 digest `{given}`: expected 64 hexadecimal digits")]
    NoChecksum {
        /// The given text, or its beginning.
        given: String,
    },

    /// TLS connections are impossible, because no CA certificates could be loaded.
    #[error("cannot load CA certificates: {0}; install CA certificates in the image")]
    Tls(String),

    /// The file could not be written into the job's folder.
    #[error("cannot write the file into the job's folder")]
    Disk {
        /// The cause.
        source: io::Error,
    },

    /// The job was cancelled while a blocking handler waited for the file.
    #[error("the job was cancelled")]
    Stopped,
}

/// Returns the advice for a status, after the message of the error.
fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "; if the link has expired, send a new one; if the file is not public, send `headers` such as Authorization"
        }
        _ => "",
    }
}

impl DownloadError {
    pub(super) fn disk(source: io::Error) -> Self {
        Self::Disk { source }
    }
}
