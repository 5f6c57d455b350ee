//! The error of uploads.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::config::bucket::Bucket;

use super::store::UploadFailure;

/// The error of an upload. It never contains keys or signatures.
///
/// ```
/// use podwork::files::{Upload, UploadError};
/// use podwork::testing::TestJob;
/// use podwork::{Context, Result, handler};
/// use serde_json::json;
///
/// #[handler]
/// async fn save(text: String, cx: Context) -> Result<String> {
///     match Upload::new(&cx).bytes("../up.txt", text).await {
///         Err(UploadError::Name { problem, .. }) => Ok(problem),
///         other => Ok(other?.url().to_owned()),
///     }
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let job = TestJob::new(json!("hello")).run::<save>().await;
/// assert_eq!(job.result.unwrap(), json!("it contains the part `.` or `..`"));
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The name is not a valid upload key.
    #[error("invalid upload name `{name}`: {problem}")]
    Name {
        /// The name.
        name: String,
        /// The reason.
        problem: String,
    },

    /// The content type is not a valid header value.
    #[error("invalid content type `{kind}`: not a valid HTTP header value")]
    ContentType {
        /// The content type.
        kind: String,
    },

    /// The lifetime of the URL is out of range.
    #[error("invalid `expires_in` of {lifetime:?}: a URL can be valid from 1 second to 7 days")]
    Lifetime {
        /// The requested lifetime.
        lifetime: Duration,
    },

    /// The job names a bucket of its own, but a setting of it is invalid.
    #[error("cannot use the job's {setting}: {problem}")]
    Config {
        /// The setting, such as `s3Config.accessId`.
        setting: &'static str,
        /// The reason.
        problem: String,
    },

    /// No bucket is configured, and the local folder cannot replace it.
    #[error(
        "no bucket is configured: set BUCKET_ENDPOINT_URL, BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY on the \
         worker, or s3Config in the request"
    )]
    NoBucket,

    /// The data could not be read.
    #[error("cannot upload {name}: reading it failed")]
    Read {
        /// The name of the upload, or the path of the file.
        name: String,
        /// The cause.
        source: io::Error,
    },

    /// The data exceeds the maximum size.
    #[error("cannot upload {name}: larger than the limit of {limit} bytes")]
    TooLarge {
        /// The name of the upload.
        name: String,
        /// The maximum size, in bytes.
        limit: u64,
    },

    /// The host that the job names is, or may be, inside a private network. The source contains its address.
    #[error(
        "cannot upload {name} to {host}: the host's address is not public; to allow such addresses, set \
         RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS=true on the worker"
    )]
    Private {
        /// The name of the upload.
        name: String,
        /// The host.
        host: String,
        /// The error that contains the address.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// All attempts failed: the service could not be reached, closed the connection, or was too slow.
    #[error("cannot upload {name}: the request to {host} failed: {why}; check {setting}")]
    Unreachable {
        /// The name of the upload.
        name: String,
        /// The host.
        host: String,
        /// The cause of the last failure.
        why: String,
        /// The setting that names the host.
        setting: &'static str,
    },

    /// The service refused the upload.
    #[error("cannot upload {name} to the bucket `{bucket}` at {host}: {problem}")]
    Refused {
        /// The name of the upload.
        name: String,
        /// The bucket.
        bucket: String,
        /// The host.
        host: String,
        /// The HTTP status code.
        status: u16,
        /// The error code of the service, such as `NoSuchBucket`.
        code: Option<String>,
        /// The meaning of the response, and how to fix the problem.
        problem: String,
    },

    /// The host responded, but not like an S3 service.
    #[error("cannot upload {name}: {host} does not respond like an S3 service; check {setting}")]
    NotS3 {
        /// The name of the upload.
        name: String,
        /// The host.
        host: String,
        /// The setting that names the host.
        setting: &'static str,
    },

    /// TLS connections are impossible, because no CA certificates could be loaded.
    #[error("cannot load CA certificates: {0}; install CA certificates in the image")]
    Tls(String),

    /// No bucket is configured, and the file could not be saved in the local folder instead.
    #[error("cannot save {name} in {folder}")]
    Disk {
        /// The name of the upload.
        name: String,
        /// The folder.
        folder: String,
        /// The cause.
        source: io::Error,
    },

    /// There is no thread to open the connection to the bucket on.
    #[error("the upload has no thread to work on")]
    Thread(#[source] io::Error),

    /// The job was cancelled while a blocking handler waited for the upload.
    #[error("the job was cancelled")]
    Stopped,
}

impl UploadError {
    /// Returns the error for a failed request. A failure of `None` means an unexpected response.
    pub(super) fn of(failure: Option<UploadFailure>, name: &str, bucket: &Bucket) -> Self {
        let (name, host) = (name.to_owned(), bucket.host().to_owned());
        let setting = bucket.origin.names().endpoint;
        match failure {
            None => Self::NotS3 {
                name,
                host,
                setting,
            },
            Some(UploadFailure::Unreachable(why)) => Self::Unreachable {
                name,
                host,
                why,
                setting,
            },
            Some(UploadFailure::Private(why)) => Self::Private {
                name,
                host,
                source: why.into(),
            },
            Some(UploadFailure::Tls(why)) => Self::Tls(why),
            Some(UploadFailure::Refused {
                status,
                code,
                region,
            }) => {
                let problem = RefusalText {
                    status: status.as_u16(),
                    code: code.as_deref(),
                    region: region.as_deref(),
                    bucket,
                };
                Self::Refused {
                    name,
                    host,
                    bucket: bucket.name.clone(),
                    status: problem.status,
                    problem: problem.to_string(),
                    code,
                }
            }
        }
    }
}

/// The meaning of a refusal, and how to fix the problem.
struct RefusalText<'a> {
    status: u16,
    code: Option<&'a str>,
    region: Option<&'a str>,
    bucket: &'a Bucket,
}

impl fmt::Display for RefusalText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.bucket.origin.names();
        match (self.code, self.status) {
            (Some("NoSuchBucket"), _) => {
                write!(f, "the bucket does not exist; create it, or check {}", names.bucket)?;
            }
            (Some("InvalidAccessKeyId"), _) => {
                write!(f, "the service does not know the access key; check {}", names.id)?;
            }
            (Some("SignatureDoesNotMatch"), _) => write!(
                f,
                "the secret does not match the access key; check {} and {}",
                names.id, names.secret
            )?,
            (Some("NoSuchUpload"), _) => f.write_str("the service removed the upload before it was complete")?,
            (Some("RequestTimeTooSkewed"), _) => f.write_str("the clock of this machine is wrong")?,
            (
                Some("AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect"),
                _,
            )
            | (_, 301 | 307) => {
                let ours = &self.bucket.region;
                match self.region {
                    Some(theirs) => write!(f, "the bucket is in the region {theirs}, not in {ours}")?,
                    None => write!(f, "the bucket is not in the region {ours}")?,
                }
                let endpoint = names.endpoint;
                write!(f, "; check {endpoint}, or the worker's AWS_REGION if the host name does not contain the region")?;
            }
            (Some("AccessDenied"), _) | (_, 401 | 403) => f.write_str(
                "access denied; the access key needs the permissions s3:PutObject, s3:AbortMultipartUpload and s3:GetObject",
            )?,
            (_, 404) => write!(f, "not found; check {}", names.endpoint)?,
            (_, 429 | 500..) => f.write_str("the service is overloaded or unavailable; try again later")?,
            _ => f.write_str("the service refused the request")?,
        }
        write!(f, " (status {}", self.status)?;
        if let Some(code) = self.code {
            write!(f, ", {code}")?;
        }
        f.write_str(")")
    }
}
