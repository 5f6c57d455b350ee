//! The bucket that uploads go to: its location and access keys.

mod provider;

use std::fmt;

use podwork_protocol::env;
use url::{Host, Url};

use provider::ProviderHost;

/// A bucket of an S3-compatible service.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) region: String,
    /// Scheme, host and path prefix, without a slash at the end. The host contains the bucket's name if it is
    /// [virtual](Self::virtual_hosted).
    pub(crate) endpoint: String,
    /// The host contains the bucket's name, rather than the path.
    pub(crate) virtual_hosted: bool,
    /// The service supports signed URLs, as far as is known.
    pub(crate) can_sign_urls: bool,
    pub(crate) keys: AccessKeys,
    pub(crate) origin: BucketOrigin,
}

/// The access keys of a bucket. Never show them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AccessKeys {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKeys(…)")
    }
}

/// The party that named a bucket. It decides how far the bucket is trusted, and which settings errors name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BucketOrigin {
    /// The operator of the worker.
    Environment,
    /// The client that submitted the job.
    Job,
}

/// The names of a bucket's settings.
pub(crate) struct SettingNames {
    pub(crate) endpoint: &'static str,
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) bucket: &'static str,
}

impl BucketOrigin {
    /// Returns the names of the settings.
    pub(crate) fn names(self) -> SettingNames {
        match self {
            Self::Environment => SettingNames {
                endpoint: env::BUCKET_ENDPOINT_URL,
                id: env::BUCKET_ACCESS_KEY_ID,
                secret: env::BUCKET_SECRET_ACCESS_KEY,
                bucket: env::BUCKET_NAME,
            },
            Self::Job => SettingNames {
                endpoint: "s3Config.endpointUrl",
                id: "s3Config.accessId",
                secret: "s3Config.accessSecret",
                bucket: "s3Config.bucketName",
            },
        }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("name", &self.name)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// The reason why a bucket's settings are invalid.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BucketError {
    /// The URL is invalid.
    Url(String),
    /// The bucket's name is missing.
    Unnamed,
    /// The name is invalid.
    Name(String),
    /// The access key's id is invalid.
    AccessKeyId,
}

impl Bucket {
    /// Resolves the bucket at `endpoint`, by the name in that URL or else `name`.
    ///
    /// `region` is the worker's own. It applies if the host name does not clearly contain a region. For a job's bucket,
    /// it applies only if the region cannot even be guessed from the host name.
    pub(crate) fn at(
        endpoint: &str,
        name: Option<&str>,
        region: Option<&str>,
        keys: AccessKeys,
        origin: BucketOrigin,
    ) -> Result<Self, BucketError> {
        let url = parse(endpoint).map_err(BucketError::Url)?;
        let host = url.host_str().unwrap_or_default();
        let provider = match url.host() {
            Some(Host::Domain(domain)) => ProviderHost::of(domain.trim_end_matches('.')),
            _ => ProviderHost::default(),
        };
        let (path, in_path) = split_path(&url, &provider, name)?;
        let name = bucket_name(provider.bucket.as_deref(), in_path, name)?;
        if !is_plain(&keys.id) {
            return Err(BucketError::AccessKeyId);
        }
        // A certificate for `*.s3.…` covers one label only, so it does not cover bucket names with a dot.
        let moves = provider.prefers_virtual && in_path.is_none() && is_label(&name);
        let prefix = if moves && provider.bucket.is_none() {
            format!("{name}.")
        } else {
            String::new()
        };
        let port = url
            .port()
            .map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self {
            endpoint: format!("{}://{prefix}{host}{port}{path}", url.scheme()),
            can_sign_urls: !provider.cannot_sign_urls,
            virtual_hosted: provider.bucket.is_some() || moves,
            region: resolve_region(provider, region, origin),
            name,
            keys,
            origin,
        })
    }

    /// Returns the host, for messages.
    pub(crate) fn host(&self) -> &str {
        let (_, rest) = self.endpoint.split_once("://").unwrap_or_default();
        rest.split('/').next().unwrap_or_default()
    }

    /// Returns the URL of an object without a signature. Only a public bucket serves it.
    pub(crate) fn object_url(&self, key: &str) -> String {
        let mut url = Url::parse(&self.endpoint).expect("the endpoint was made from a URL");
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            if !self.virtual_hosted {
                path.push(&self.name);
            }
            path.extend(key.split('/'));
        }
        url.into()
    }
}

/// Returns the bucket's name: the one in the URL, by its host or its path, or else the given one.
fn bucket_name(
    in_host: Option<&str>,
    in_path: Option<&str>,
    given: Option<&str>,
) -> Result<String, BucketError> {
    if let (Some(in_host), Some(in_path)) = (in_host, in_path)
        && in_host != in_path
    {
        return Err(BucketError::Url(format!(
            "its host contains the bucket name `{in_host}`, but its path is not empty"
        )));
    }
    let in_url = in_host.or(in_path);
    let given = given.map(str::trim).filter(|name| !name.is_empty());
    let name = match (in_url, given) {
        (Some(in_url), Some(given)) if in_url != given => {
            return Err(BucketError::Name(format!(
                "the URL contains another bucket name, `{in_url}`"
            )));
        }
        (in_url, given) => in_url.or(given).ok_or(BucketError::Unnamed)?,
    };
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    if !name.chars().all(is_allowed) || name.starts_with(['-', '.', '_']) {
        let problem = "a bucket name consists of letters, digits, `-`, `.` and `_`, and starts with a letter or digit";
        return Err(match in_url {
            Some(_) => BucketError::Url(problem.to_owned()),
            None => BucketError::Name(problem.to_owned()),
        });
    }
    Ok(name.to_owned())
}

fn resolve_region(provider: ProviderHost, own: Option<&str>, origin: BucketOrigin) -> String {
    let (likely, own) = (provider.likely_region, own.map(str::to_owned));
    let guess = match origin {
        BucketOrigin::Environment => own.or(likely),
        BucketOrigin::Job => likely.or(own),
    };
    let region = provider.region.or(guess);
    region.unwrap_or_else(|| DEFAULT_REGION.to_owned())
}

/// The region that most providers without regions accept.
const DEFAULT_REGION: &str = "us-east-1";

fn parse(endpoint: &str) -> Result<Url, String> {
    let endpoint = endpoint.trim();
    if !endpoint.contains("://") {
        return Err("the URL does not start with https:// or http://".to_owned());
    }
    let url = Url::parse(endpoint).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}` is not http or https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it contains a user name or a password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it contains a query or a fragment".to_owned());
    }
    Ok(url)
}

/// Splits the path of an endpoint into a prefix, such as `/storage/v1/s3`, and the bucket's name, if the path ends in
/// it.
///
/// Some services show `https://host/bucket`, and others are behind a path of a shared host. The given name decides: a
/// path that does not end in it is a prefix. The services of known providers have no prefix.
fn split_path<'a>(
    url: &'a Url,
    provider: &ProviderHost,
    given: Option<&str>,
) -> Result<(String, Option<&'a str>), BucketError> {
    let parts: Vec<&str> = url
        .path()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let given = given.map(str::trim).filter(|name| !name.is_empty());
    let (prefix, name) = match (&parts[..], given) {
        ([], _) => (&[][..], None),
        ([before @ .., last], Some(given)) if *last == given => (before, Some(*last)),
        (_, Some(_)) if !provider.is_known => (&parts[..], None),
        ([only], _) => (&[][..], Some(*only)),
        (_, None) if !provider.is_known => return Err(BucketError::Unnamed),
        _ => {
            return Err(BucketError::Url(
                "its path is more than a bucket name".to_owned(),
            ));
        }
    };
    if provider.is_known && !prefix.is_empty() {
        return Err(BucketError::Url(
            "its path is more than a bucket name".to_owned(),
        ));
    }
    let is_plain = |part: &&str| {
        part.chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-._~".contains(letter))
    };
    if !prefix.iter().all(is_plain) {
        let problem = "the parts of its path consist of letters, digits, `-`, `.`, `_` and `~`";
        return Err(BucketError::Url(problem.to_owned()));
    }
    let prefix: Vec<&str> = prefix.iter().flat_map(|part| ["/", part]).collect();
    Ok((prefix.concat(), name))
}

/// Returns whether a text may be part of a header.
pub(crate) fn is_plain(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_graphic())
}

/// Returns whether a name may be one label of a host name.
fn is_label(name: &str) -> bool {
    let good = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    name.len() <= 63
        && name.chars().all(|letter| good(letter) || letter == '-')
        && name.starts_with(good)
        && name.ends_with(good)
}

#[cfg(test)]
mod tests;
