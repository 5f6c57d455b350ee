//! Why there is no upload.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::config::bucket::Bucket;

use super::store::UploadFailure;

/// Why something could not be uploaded. Keys and signatures are in no error.
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
/// assert_eq!(job.result.unwrap(), json!("a part of it is `.` or `..`"));
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The name is none that a file can have in a bucket.
    #[error("`{name}` cannot be the name of an upload: {problem}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },

    /// The content type cannot be sent.
    #[error("`{kind}` cannot be a content type: no HTTP header can carry it")]
    ContentType {
        /// What was given.
        kind: String,
    },

    /// URLs are not signed for so long.
    #[error("a URL cannot be good for {lifetime:?}: from 1 second to 7 days can be asked for")]
    Lifetime {
        /// How long it was to be.
        lifetime: Duration,
    },

    /// The job names a bucket of its own, and not in a way that can be used.
    #[error("the job's {setting} cannot be used: {problem}")]
    Config {
        /// Which part of it.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },

    /// There is no bucket, and a folder would not do.
    #[error(
        "there is no bucket: set BUCKET_ENDPOINT_URL, BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY on the worker, \
         or s3Config in the request"
    )]
    NoBucket,

    /// What was to be uploaded could not be read.
    #[error("{name} could not be uploaded, since it could not be read: {source}")]
    Read {
        /// Its name.
        name: String,
        /// Why not.
        source: io::Error,
    },

    /// There is more of it than may be.
    #[error("{name} is over {limit} bytes, the most that may be uploaded")]
    TooLarge {
        /// Its name.
        name: String,
        /// Most bytes.
        limit: u64,
    },

    /// The host that the job names is, or may be, inside a private network. Which address it has is in the cause.
    #[error(
        "{name} cannot be uploaded to {host}: that is not at a public address \
         (RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS=true on the worker would allow it)"
    )]
    Private {
        /// Its name.
        name: String,
        /// The host.
        host: String,
        /// Names the address.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The service cannot be reached, broke off, or was too slow, too often.
    #[error("{name} could not be uploaded: {host} does not answer ({why}); is {setting} right?")]
    Unreachable {
        /// Its name.
        name: String,
        /// The host.
        host: String,
        /// What went wrong the last time.
        why: String,
        /// Where the host is from.
        setting: &'static str,
    },

    /// The service does not take it.
    #[error("{name} could not be uploaded to the bucket `{bucket}` at {host}: {problem}")]
    Refused {
        /// Its name.
        name: String,
        /// The bucket.
        bucket: String,
        /// The host.
        host: String,
        /// The status code.
        status: u16,
        /// The service's own word, such as `NoSuchBucket`.
        code: Option<String>,
        /// What that means, and what to do.
        problem: String,
    },

    /// What answered does not speak as S3 does.
    #[error("{name} could not be uploaded: {host} does not answer as S3 does; is {setting} right?")]
    NotS3 {
        /// Its name.
        name: String,
        /// The host.
        host: String,
        /// Where the host is from.
        setting: &'static str,
    },

    /// No TLS connection can be made from here.
    #[error("no certificates can be trusted: {0}; does the image hold CA certificates?")]
    Tls(String),

    /// There is no bucket, and it could not be written into the folder that stands for one.
    #[error("{name} could not be saved in {folder}: {source}")]
    Disk {
        /// Its name.
        name: String,
        /// The folder.
        folder: String,
        /// Why not.
        source: io::Error,
    },

    /// The job was told to stop while a blocking handler waited for the upload.
    #[error("the job was told to stop")]
    Stopped,
}

impl UploadError {
    /// The error of a request that failed, in words for people.
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

/// What a refusal means.
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
                write!(f, "there is no such bucket; make it, or see to {}", names.bucket)?;
            }
            (Some("InvalidAccessKeyId"), _) => {
                write!(f, "the access key is not known there; see to {}", names.id)?;
            }
            (Some("SignatureDoesNotMatch"), _) => write!(
                f,
                "the secret does not belong to the access key; see to {} and {}",
                names.id, names.secret
            )?,
            (Some("NoSuchUpload"), _) => f.write_str("it was removed there before it was complete")?,
            (Some("RequestTimeTooSkewed"), _) => f.write_str("this machine's clock is wrong")?,
            (
                Some("AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect"),
                _,
            )
            | (_, 301 | 307) => {
                let ours = &self.bucket.region;
                match self.region {
                    Some(theirs) => write!(f, "it is in the region {theirs}, and {ours} was asked for")?,
                    None => write!(f, "it is not in the region {ours}")?,
                }
                let endpoint = names.endpoint;
                write!(f, "; see to {endpoint}, or the worker's AWS_REGION where the host's name does not tell the region")?;
            }
            (Some("AccessDenied"), _) | (_, 401 | 403) => f.write_str(
                "access is denied; the access key needs s3:PutObject, s3:AbortMultipartUpload and s3:GetObject there",
            )?,
            (_, 404) => write!(f, "nothing is there; see to {}", names.endpoint)?,
            (_, 429 | 500..) => f.write_str("the service is in trouble; try again later")?,
            _ => f.write_str("the service refused it")?,
        }
        write!(f, " (it answered {}", self.status)?;
        if let Some(code) = self.code {
            write!(f, ", {code}")?;
        }
        f.write_str(")")
    }
}
