//! Why there is no file.

use std::error::Error as StdError;
use std::io;

/// Why a file could not be downloaded. URLs are told without queries and passwords, which may be secrets.
///
/// ```
/// use podwork::files::{DownloadError, RemoteFile};
///
/// let refused = RemoteFile::new("ftp://example.com/a").unwrap_err();
/// assert!(matches!(refused, DownloadError::Url { .. }));
/// assert_eq!(
///     refused.to_string(),
///     "ftp://example.com/a cannot be downloaded: `ftp` is not http, https or data"
/// );
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The URL is none that is downloaded from.
    #[error("{url} cannot be downloaded: {problem}")]
    Url {
        /// The URL, or its beginning.
        url: String,
        /// What is wrong with it.
        problem: String,
    },

    /// The host is, or may be, inside a private network. Which address it has is in the cause: clients see causes
    /// only where [`Worker::expose_error_details`](crate::Worker::expose_error_details) says so.
    #[error(
        "{url} cannot be downloaded: its host is not at a public address \
         (RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS=true on the worker would allow it)"
    )]
    Private {
        /// The URL.
        url: String,
        /// Names the address.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The server sends on and on, or nowhere.
    #[error("{url} cannot be downloaded: {problem}")]
    Redirect {
        /// The URL that was asked for at first.
        url: String,
        /// What is wrong.
        problem: String,
    },

    /// The server does not give it.
    #[error("{url} cannot be downloaded: the server answered {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status code.
        status: u16,
    },

    /// There is more of it than may be.
    #[error("{url} is over {limit} bytes, the most that may be downloaded")]
    TooLarge {
        /// The URL.
        url: String,
        /// Most bytes.
        limit: u64,
    },

    /// The server could not be reached, the connection broke, or it was too slow, too often.
    #[error("{url} could not be downloaded in {tries} tries: {why}")]
    Broken {
        /// The URL.
        url: String,
        /// How often it was tried.
        tries: usize,
        /// What went wrong the last time.
        why: String,
    },

    /// It is not the file that was meant.
    #[error("{url} has the SHA-256 {got}, and {expected} was expected")]
    Checksum {
        /// The URL.
        url: String,
        /// The checksum that was asked for.
        expected: String,
        /// The checksum of what came.
        got: String,
    },

    /// The checksum that was asked for is none.
    #[error("`{given}` is no SHA-256: that is 64 hexadecimal digits")]
    NoChecksum {
        /// What was given.
        given: String,
    },

    /// No TLS connection can be made from here.
    #[error("no certificates can be trusted: {0}; does the image hold CA certificates?")]
    Tls(String),

    /// It could not be written into the job's folder.
    #[error("the file could not be written: {0}")]
    Disk(#[from] io::Error),

    /// The job was told to stop while a blocking handler waited for the file.
    #[error("the job was told to stop")]
    Stopped,
}
