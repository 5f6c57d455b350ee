//! The settings of downloads and uploads.

use podwork_protocol::env;
#[cfg(feature = "upload")]
use tracing::warn;

#[cfg(feature = "upload")]
use crate::config::bucket::{AccessKeys, Bucket, BucketError, BucketOrigin, is_plain};
use crate::error::Error;

use super::given;
#[cfg(feature = "download")]
use super::whole_number;
#[cfg(feature = "upload")]
use super::{first_given, without_secrets};

/// The limits of a job's downloads.
#[cfg(feature = "download")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DownloadLimits {
    /// Maximum size of one file, in bytes. Default: 5 GiB.
    pub(crate) max_bytes: u64,
    /// Allows addresses that are not public.
    pub(crate) allow_private: bool,
}

#[cfg(feature = "download")]
impl Default for DownloadLimits {
    fn default() -> Self {
        Self {
            max_bytes: 5 * 1024 * 1024 * 1024,
            allow_private: false,
        }
    }
}

#[cfg(feature = "download")]
impl DownloadLimits {
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |name: &str| given(&lookup, name);
        let max_bytes = get(env::MAX_DOWNLOAD_BYTES);
        let expected = "a number of bytes, such as 1073741824";
        let max_bytes = whole_number(env::MAX_DOWNLOAD_BYTES, max_bytes, expected)?;
        Ok(Self {
            max_bytes: max_bytes.unwrap_or(Self::default().max_bytes),
            allow_private: allows_private(&get),
        })
    }
}

/// The variable for the form of the URLs of uploads.
#[cfg(feature = "upload")]
const UPLOAD_URL: &str = "PODWORK_UPLOAD_URL";

#[cfg(feature = "upload")]
const ENDPOINT: &str = "a URL such as https://s3.eu-central-1.amazonaws.com";

/// Variables that have no effect without an endpoint, each with the reason why the endpoint is required.
#[cfg(feature = "upload")]
const OTHERS: [(&str, &str); 3] = [
    (env::BUCKET_ACCESS_KEY_ID, "BUCKET_ACCESS_KEY_ID is set"),
    (
        env::BUCKET_SECRET_ACCESS_KEY,
        "BUCKET_SECRET_ACCESS_KEY is set",
    ),
    (env::BUCKET_NAME, "BUCKET_NAME is set"),
];

/// The target of a job's uploads.
#[cfg(feature = "upload")]
#[derive(Debug, Default)]
pub(crate) struct UploadSettings {
    /// The bucket of jobs that do not name one. `None`: a local folder.
    pub(crate) bucket: Option<Bucket>,
    /// The region of buckets whose host name does not contain it.
    pub(crate) region: Option<String>,
    /// Allows jobs to name buckets at addresses that are not public.
    pub(crate) allow_private: bool,
    /// The form of the URLs of uploads to `bucket`. `None`: signed, or `s3:` if the service does not support that.
    pub(crate) url: Option<UploadUrl>,
}

/// The form of the URL that an upload returns.
#[cfg(feature = "upload")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadUrl {
    /// A signed `https:` URL, from which anyone can download the file until it expires.
    Signed,
    /// The `https:` URL of the object, without a signature. It works only if the bucket is public.
    Object,
    /// `s3://<bucket>/<key>`, for clients with an access key of their own.
    S3,
}

#[cfg(feature = "upload")]
impl UploadSettings {
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |name: &str| given(&lookup, name);
        let region = read_region(&get)?;
        Ok(Self {
            bucket: read_bucket(&get, region.as_deref())?,
            allow_private: allows_private(&get),
            url: read_upload_url(get(UPLOAD_URL))?,
            region,
        })
    }

    /// Logs a warning if the bucket's service does not support the URLs that uploads would return.
    pub(crate) fn warn_of_unsigned_urls(&self) {
        let Some(bucket) = self.bucket.as_ref().filter(|bucket| !bucket.can_sign_urls) else {
            return;
        };
        let host = bucket.host();
        match self.url {
            None => warn!(
                host,
                "The storage service does not support signed URLs; uploads return s3:// URLs. Set {UPLOAD_URL}=s3 to \
                 accept this, or choose another service."
            ),
            Some(UploadUrl::Signed) => warn!(
                host,
                "The storage service does not support signed URLs; the URLs of uploads will not work. Set {UPLOAD_URL}=s3."
            ),
            Some(UploadUrl::Object | UploadUrl::S3) => {}
        }
    }
}

#[cfg(feature = "upload")]
fn read_upload_url(value: Option<String>) -> Result<Option<UploadUrl>, Error> {
    let Some(value) = value else { return Ok(None) };
    match value.trim().to_ascii_lowercase().as_str() {
        "signed" => Ok(Some(UploadUrl::Signed)),
        "object" => Ok(Some(UploadUrl::Object)),
        "s3" => Ok(Some(UploadUrl::S3)),
        _ => Err(Error::MalformedVariable {
            variable: UPLOAD_URL,
            value,
            problem: "unknown form of URL".to_owned(),
            expected: "signed, object or s3",
        }),
    }
}

#[cfg(feature = "upload")]
fn read_bucket(
    get: &impl Fn(&str) -> Option<String>,
    region: Option<&str>,
) -> Result<Option<Bucket>, Error> {
    let Some(endpoint) = get(env::BUCKET_ENDPOINT_URL) else {
        return match OTHERS.iter().find(|(name, _)| get(name).is_some()) {
            None => Ok(None),
            // Without this error, uploads would go to a local folder, which is lost with the worker.
            Some((_, because)) => Err(Error::MissingVariable {
                variable: env::BUCKET_ENDPOINT_URL,
                because,
                expected: ENDPOINT,
            }),
        };
    };
    let key = |variable, expected| {
        let key = get(variable).map(|key| key.trim().to_owned());
        key.ok_or(Error::MissingVariable {
            variable,
            because: "BUCKET_ENDPOINT_URL is set",
            expected,
        })
    };
    let keys = AccessKeys {
        id: key(env::BUCKET_ACCESS_KEY_ID, "the access key's id")?,
        secret: key(env::BUCKET_SECRET_ACCESS_KEY, "the access key's secret")?,
    };
    let name = get(env::BUCKET_NAME);
    let name = name.as_deref();
    Bucket::at(&endpoint, name, region, keys, BucketOrigin::Environment)
        .map(Some)
        .map_err(|error| bucket_error(error, &endpoint, name))
}

#[cfg(feature = "upload")]
fn bucket_error(error: BucketError, endpoint: &str, name: Option<&str>) -> Error {
    match error {
        BucketError::Url(problem) => Error::MalformedVariable {
            variable: env::BUCKET_ENDPOINT_URL,
            value: without_secrets(endpoint),
            problem,
            expected: ENDPOINT,
        },
        BucketError::Unnamed => Error::MissingVariable {
            variable: env::BUCKET_NAME,
            because: "BUCKET_ENDPOINT_URL does not contain the name of the bucket",
            expected: "the name of the bucket",
        },
        BucketError::Name(problem) => Error::MalformedVariable {
            variable: env::BUCKET_NAME,
            value: name.unwrap_or_default().to_owned(),
            problem,
            expected: "the name of the bucket, or unset it if the URL contains the name",
        },
        BucketError::AccessKeyId => Error::MalformedVariable {
            variable: env::BUCKET_ACCESS_KEY_ID,
            // Never show the key itself.
            value: "…".to_owned(),
            problem: "it contains characters that are not allowed in an HTTP header".to_owned(),
            expected: "the access key's id",
        },
    }
}

#[cfg(feature = "upload")]
fn read_region(get: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, Error> {
    let variables = [env::AWS_REGION, env::AWS_DEFAULT_REGION];
    let Some((variable, value)) = first_given(get, &variables) else {
        return Ok(None);
    };
    let region = value.trim();
    if is_plain(region) {
        return Ok(Some(region.to_owned()));
    }
    Err(Error::MalformedVariable {
        variable,
        problem: "it contains characters that are not allowed in a region".to_owned(),
        expected: "a region, such as eu-central-1",
        value,
    })
}

/// Returns whether jobs may name addresses that are not public. Accepts the same values as the official worker.
fn allows_private(get: &impl Fn(&str) -> Option<String>) -> bool {
    get(env::ALLOW_PRIVATE_DOWNLOAD_URLS).is_some_and(|text| {
        let text = text.trim().to_ascii_lowercase();
        matches!(text.as_str(), "1" | "true" | "yes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "download")]
    #[test]
    fn reads_the_limits_of_downloads() {
        let limits = |bytes: &str, private: &str| {
            DownloadLimits::read(|name| match name {
                env::MAX_DOWNLOAD_BYTES => Some(bytes.to_owned()),
                _ => Some(private.to_owned()),
            })
        };
        let unset = limits("", "").unwrap();
        assert_eq!((unset.max_bytes, unset.allow_private), (5 << 30, false));
        assert_eq!(limits(" 1024 ", "").unwrap().max_bytes, 1024);
        for allowed in ["1", "true", " TRUE", "Yes"] {
            assert!(limits("", allowed).unwrap().allow_private, "{allowed}");
        }
        for closed in ["0", "false", "no", "on"] {
            assert!(!limits("", closed).unwrap().allow_private, "{closed}");
        }
        let complaint = limits("5GB", "").unwrap_err().to_string();
        assert!(complaint.starts_with("RUNPOD_MAX_DOWNLOAD_BYTES is `5GB`"));
        assert!(limits("0", "").is_err());
    }

    #[cfg(feature = "upload")]
    #[test]
    fn reads_the_target_of_uploads() {
        let read = |changes: &[(&str, &str)]| {
            let good = [
                (
                    env::BUCKET_ENDPOINT_URL,
                    "https://s3.eu-west-1.amazonaws.com",
                ),
                (env::BUCKET_ACCESS_KEY_ID, "AKID"),
                (env::BUCKET_SECRET_ACCESS_KEY, "hush\n"),
                (env::BUCKET_NAME, "b"),
            ];
            let table: Vec<_> = changes.iter().chain(&good).copied().collect();
            UploadSettings::read(|name| {
                let found = table.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let bucket = read(&[]).unwrap().bucket.unwrap();
        assert_eq!(bucket.host(), "b.s3.eu-west-1.amazonaws.com");
        assert_eq!(bucket.keys.secret, "hush");
        let none = UploadSettings::read(|_| None).unwrap();
        assert_eq!((none.bucket, none.allow_private), (None, false));

        assert_eq!(read(&[]).unwrap().url, None);
        let s3 = read(&[("PODWORK_UPLOAD_URL", " S3 ")]).unwrap();
        assert_eq!(s3.url, Some(UploadUrl::S3));

        let complaint = |changes: &[(&str, &str)]| read(changes).unwrap_err().to_string();
        assert_eq!(
            complaint(&[("PODWORK_UPLOAD_URL", "http")]),
            "PODWORK_UPLOAD_URL is `http`: unknown form of URL; set it to signed, object or s3"
        );
        assert_eq!(
            complaint(&[(env::BUCKET_NAME, "")]),
            "BUCKET_NAME is not set but required: BUCKET_ENDPOINT_URL does not contain the name of the bucket; set it \
             to the name of the bucket"
        );
        assert_eq!(
            complaint(&[(env::BUCKET_ENDPOINT_URL, " ")]),
            "BUCKET_ENDPOINT_URL is not set but required: BUCKET_ACCESS_KEY_ID is set; set it to a URL such as \
             https://s3.eu-central-1.amazonaws.com"
        );
        let region = complaint(&[(env::AWS_DEFAULT_REGION, "mars 1")]);
        assert!(
            region.starts_with("AWS_DEFAULT_REGION is `mars 1`"),
            "{region}"
        );
        let missing = complaint(&[(env::BUCKET_SECRET_ACCESS_KEY, "")]);
        assert!(missing.starts_with("BUCKET_SECRET_ACCESS_KEY is not set"));
        let url = complaint(&[(env::BUCKET_ENDPOINT_URL, "s3.eu-west-1.amazonaws.com")]);
        assert!(
            url.starts_with("BUCKET_ENDPOINT_URL is `s3.eu-west-1.amazonaws.com`: the URL does")
        );
        for url in ["https://AKID:hush@h", "https://h/?key=hush", "AKID:hush@h"] {
            let complaint = complaint(&[(env::BUCKET_ENDPOINT_URL, url)]);
            let shown = complaint.contains("hush") || complaint.contains("AKID");
            assert!(
                !shown && complaint.contains("set it to a URL"),
                "{complaint}"
            );
        }
    }
}
