//! What the environment says of a job's files.

use podwork_protocol::env;

#[cfg(feature = "upload")]
use crate::config::bucket::{Bucket, Keys, Misplaced, Origin, is_plain};
use crate::error::Error;

use super::given;
#[cfg(feature = "download")]
use super::whole_number;
#[cfg(feature = "upload")]
use super::{first_given, without_secrets};

/// What a job may download.
#[cfg(feature = "download")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DownloadLimits {
    /// Most bytes of one file.
    pub(crate) max_bytes: u64,
    /// From addresses, too, that are not public.
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

#[cfg(feature = "upload")]
const ENDPOINT: &str = "a URL such as https://s3.eu-central-1.amazonaws.com";

/// What is nothing without an endpoint.
#[cfg(feature = "upload")]
const OF_A_BUCKET: [(&str, &str); 3] = [
    (env::BUCKET_ACCESS_KEY_ID, "BUCKET_ACCESS_KEY_ID is"),
    (env::BUCKET_SECRET_ACCESS_KEY, "BUCKET_SECRET_ACCESS_KEY is"),
    (env::BUCKET_NAME, "BUCKET_NAME is"),
];

/// Where a job's uploads go.
#[cfg(feature = "upload")]
#[derive(Debug, Default)]
pub(crate) struct UploadSettings {
    /// Unless the job names one of its own; `None`: a folder.
    pub(crate) bucket: Option<Bucket>,
    /// Of buckets whose host does not tell it.
    pub(crate) region: Option<String>,
    /// To addresses, too, that are not public, if it is the job that names them.
    pub(crate) allow_private: bool,
}

#[cfg(feature = "upload")]
impl UploadSettings {
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |name: &str| given(&lookup, name);
        let allow_private = allows_private(&get);
        let region = read_region(&get)?;
        let Some(endpoint) = get(env::BUCKET_ENDPOINT_URL) else {
            return match OF_A_BUCKET.iter().find(|(name, _)| get(name).is_some()) {
                None => Ok(Self {
                    bucket: None,
                    region,
                    allow_private,
                }),
                // Or what was meant for the bucket would go with the worker.
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
                because: "BUCKET_ENDPOINT_URL names a bucket to upload to",
                expected,
            })
        };
        let keys = Keys {
            id: key(env::BUCKET_ACCESS_KEY_ID, "the access key's id")?,
            secret: key(env::BUCKET_SECRET_ACCESS_KEY, "the access key's secret")?,
        };
        let name = get(env::BUCKET_NAME);
        let bucket = Bucket::at(
            &endpoint,
            name.as_deref(),
            region.as_deref(),
            keys,
            Origin::Environment,
        );
        let bucket = bucket.map_err(|misplaced| match misplaced {
            Misplaced::Url(problem) => Error::MalformedVariable {
                variable: env::BUCKET_ENDPOINT_URL,
                value: without_secrets(&endpoint),
                problem,
                expected: ENDPOINT,
            },
            Misplaced::Unnamed => Error::MissingVariable {
                variable: env::BUCKET_NAME,
                because: "BUCKET_ENDPOINT_URL does not name the bucket to upload to",
                expected: "the bucket's name",
            },
            Misplaced::Name(problem) => Error::MalformedVariable {
                variable: env::BUCKET_NAME,
                value: name.unwrap_or_default(),
                problem,
                expected: "the bucket's name, or to nothing if the URL has it",
            },
            Misplaced::Keys => Error::MalformedVariable {
                variable: env::BUCKET_ACCESS_KEY_ID,
                // A key is not to be shown.
                value: "…".to_owned(),
                problem: "it holds characters that no HTTP header can carry".to_owned(),
                expected: "the access key's id",
            },
        })?;
        Ok(Self {
            bucket: Some(bucket),
            region,
            allow_private,
        })
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
        problem: "it holds characters that no region has".to_owned(),
        expected: "a region, such as eu-central-1",
        value,
    })
}

/// Whether jobs may have the worker connect to addresses that are not public; in the official worker's words for it.
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
    fn what_a_job_may_download() {
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
    fn where_uploads_go() {
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

        let complaint = |changes: &[(&str, &str)]| read(changes).unwrap_err().to_string();
        assert_eq!(
            complaint(&[(env::BUCKET_NAME, "")]),
            "BUCKET_NAME is not set, and BUCKET_ENDPOINT_URL does not name the bucket to upload to; set it to the \
             bucket's name"
        );
        assert_eq!(
            complaint(&[(env::BUCKET_ENDPOINT_URL, " ")]),
            "BUCKET_ENDPOINT_URL is not set, and BUCKET_ACCESS_KEY_ID is; set it to a URL such as \
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
            url.starts_with("BUCKET_ENDPOINT_URL is `s3.eu-west-1.amazonaws.com`: there is no")
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
