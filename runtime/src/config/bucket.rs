//! The bucket that uploads go to: where it is, and by which keys.

use std::fmt;

use podwork_protocol::env;
use url::{Host, Url};

/// A bucket of an S3-compatible service.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) region: String,
    /// Scheme and host; the bucket's name is in it if that is [virtual](Self::virtual_hosted).
    pub(crate) endpoint: String,
    /// The bucket is named by the host, and not by the path.
    pub(crate) virtual_hosted: bool,
    pub(crate) keys: Keys,
    pub(crate) origin: Origin,
}

/// By which a service knows who asks; never to be shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// Who named a bucket: that is who is told what to mend, and how far it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Whoever runs the worker.
    Environment,
    /// Whoever submitted the job.
    Job,
}

/// What the settings of a bucket are called there.
pub(crate) struct Names {
    pub(crate) endpoint: &'static str,
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) bucket: &'static str,
}

impl Origin {
    pub(crate) fn names(self) -> Names {
        match self {
            Self::Environment => Names {
                endpoint: env::BUCKET_ENDPOINT_URL,
                id: env::BUCKET_ACCESS_KEY_ID,
                secret: env::BUCKET_SECRET_ACCESS_KEY,
                bucket: env::BUCKET_NAME,
            },
            Self::Job => Names {
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

/// What is wrong with where a bucket is said to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misplaced {
    /// The URL cannot be used.
    Url(String),
    /// Nothing names the bucket.
    Unnamed,
    /// The name cannot be used.
    Name(String),
    /// The access key's id is none.
    Keys,
}

impl Bucket {
    /// The bucket at `endpoint`, by the name that it says or else `name`. `region`, the worker's own, is believed where
    /// the host's name does not tell it for certain; for a job's bucket, where it does not tell it at all.
    pub(crate) fn at(
        endpoint: &str,
        name: Option<&str>,
        region: Option<&str>,
        keys: Keys,
        origin: Origin,
    ) -> Result<Self, Misplaced> {
        let url = parse(endpoint).map_err(Misplaced::Url)?;
        let host = url.host_str().unwrap_or_default();
        let service = match url.host() {
            Some(Host::Domain(domain)) => Service::of(domain.trim_end_matches('.')),
            _ => Service::default(),
        };
        let in_path = bucket_in_path(&url).map_err(Misplaced::Url)?;
        let given = name.map(str::trim).filter(|name| !name.is_empty());
        let in_host = service.bucket.as_deref();
        if let (Some(in_host), Some(in_path)) = (in_host, in_path)
            && in_host != in_path
        {
            return Err(Misplaced::Url(format!(
                "it names the bucket `{in_host}` and has a path as well"
            )));
        }
        let in_url = in_host.or(in_path);
        let name = match (in_url, given) {
            (Some(in_url), Some(given)) if in_url != given => {
                return Err(Misplaced::Name(format!(
                    "the URL names the bucket `{in_url}` already"
                )));
            }
            (in_url, given) => in_url.or(given).ok_or(Misplaced::Unnamed)?.to_owned(),
        };
        let good = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        if !name.chars().all(good) || name.starts_with(['-', '.', '_']) {
            let problem = "a bucket's name has letters, digits, `-`, `.` and `_` alone, and begins with one of the former";
            let problem = problem.to_owned();
            return Err(match in_url {
                Some(_) => Misplaced::Url(problem),
                None => Misplaced::Name(problem),
            });
        }
        if !is_plain(&keys.id) {
            return Err(Misplaced::Keys);
        }
        let (likely, own) = (service.likely_region, region.map(str::to_owned));
        let guess = match origin {
            Origin::Environment => own.or(likely),
            Origin::Job => likely.or(own),
        };
        let region = service.region.or(guess);
        // A certificate for `*.s3.…` is good for one label, and so for no bucket with a dot in its name.
        let moves = service.virtual_too && in_path.is_none() && is_label(&name);
        let virtual_hosted = service.bucket.is_some() || moves;
        let port = url
            .port()
            .map_or_else(String::new, |port| format!(":{port}"));
        let before = if moves && service.bucket.is_none() {
            format!("{name}.")
        } else {
            String::new()
        };
        Ok(Self {
            endpoint: format!("{}://{before}{host}{port}", url.scheme()),
            region: region.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
            virtual_hosted,
            name,
            keys,
            origin,
        })
    }

    /// The host, as it is told to people.
    pub(crate) fn host(&self) -> &str {
        let (_, host) = self.endpoint.split_once("://").unwrap_or_default();
        host
    }
}

/// What most services take that have no regions.
const DEFAULT_REGION: &str = "us-east-1";

fn parse(endpoint: &str) -> Result<Url, String> {
    let endpoint = endpoint.trim();
    if !endpoint.contains("://") {
        return Err("there is no https:// or http:// before it".to_owned());
    }
    let url = Url::parse(endpoint).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}` is not http or https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("there is a user name or a password in it".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("there is a `?` or a `#` in it".to_owned());
    }
    Ok(url)
}

/// `https://host/bucket`, as some services show it.
fn bucket_in_path(url: &Url) -> Result<Option<&str>, String> {
    let mut parts = url.path().split('/').filter(|part| !part.is_empty());
    let first = parts.next();
    match parts.next() {
        None => Ok(first),
        Some(_) => Err("its path is more than the name of a bucket".to_owned()),
    }
}

/// Whether it can stand in a header.
pub(crate) fn is_plain(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_graphic())
}

/// Whether it can stand in a host's name, as one part.
fn is_label(name: &str) -> bool {
    let good = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    name.len() <= 63
        && name.chars().all(|letter| good(letter) || letter == '-')
        && name.starts_with(good)
        && name.ends_with(good)
}

/// What a host's name tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Service {
    bucket: Option<String>,
    region: Option<String>,
    /// By the look of the name alone.
    likely_region: Option<String>,
    /// Buckets should be named by the host where they are not yet.
    virtual_too: bool,
}

/// Hosts of services that have regions; before them stands a bucket, or nothing.
const REGIONAL: &[(&str, &str)] = &[
    ("s3", "backblazeb2.com"),
    ("", "digitaloceanspaces.com"),
    ("s3", "wasabisys.com"),
    ("s3", "scw.cloud"),
    ("", "linodeobjects.com"),
    ("", "vultrobjects.com"),
    ("", "your-objectstorage.com"),
];

impl Service {
    fn of(domain: &str) -> Self {
        let domain = domain.to_ascii_lowercase();
        let below = |suffix: &str| -> Option<Vec<&str>> {
            let rest = domain.strip_suffix(suffix)?.strip_suffix('.')?;
            Some(rest.split('.').collect())
        };
        if let Some(labels) = below("amazonaws.com").or_else(|| below("amazonaws.com.cn")) {
            return Self::amazon(&labels);
        }
        if let Some(labels) = below("r2.cloudflarestorage.com") {
            // <bucket>.<account>.<jurisdiction>; only the account is always there.
            let account = labels.iter().position(|label| label.len() == 32);
            return Self::named(&labels[..account.unwrap_or(0)], "auto");
        }
        if let Some(labels) = below("googleapis.com")
            && let Some((&"storage", before)) = labels.split_last()
        {
            return Self::named(before, "auto");
        }
        if let Some(labels) = below("runpod.io")
            && let [label] = labels[..]
            && let Some(datacenter) = label.strip_prefix("s3api-")
        {
            return Self::named(&[], &datacenter.to_ascii_uppercase());
        }
        for (service, suffix) in REGIONAL {
            let Some(labels) = below(suffix) else {
                continue;
            };
            match &labels[..] {
                [before @ .., region] if service.is_empty() => return Self::named(before, region),
                [before @ .., label, region] if label == service => {
                    return Self::named(before, region);
                }
                _ => {}
            }
        }
        let labels: Vec<&str> = domain.split('.').collect();
        let at = labels.iter().position(|label| *label == "s3");
        let likely = at
            .filter(|at| labels.len() >= at + 4)
            .map(|at| labels[at + 1]);
        Self {
            likely_region: likely.map(str::to_owned),
            ..Self::default()
        }
    }

    /// `s3.<region>`, `s3-<region>`, `s3.dualstack.<region>`, `s3-fips.<region>`, `s3`, with a bucket before it or
    /// not.
    fn amazon(labels: &[&str]) -> Self {
        let is_s3 = |label: &&str| *label == "s3" || label.starts_with("s3-");
        let Some(at) = labels.iter().rposition(is_s3) else {
            return Self::default();
        };
        let after = labels[at + 1..].iter().find(|label| **label != "dualstack");
        let within = labels[at].strip_prefix("s3-");
        let within = within.filter(|name| !matches!(*name, "accelerate" | "fips" | "external-1"));
        let region = after.copied().or(within);
        Self {
            bucket: (at > 0).then(|| labels[..at].join(".")),
            region: region.map(str::to_owned),
            likely_region: (labels[at] == "s3").then(|| DEFAULT_REGION.to_owned()),
            virtual_too: true,
        }
    }

    fn named(before: &[&str], region: &str) -> Self {
        Self {
            bucket: (!before.is_empty()).then(|| before.join(".")),
            region: Some(region.to_owned()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            id: "AKID".to_owned(),
            secret: "hush".to_owned(),
        }
    }

    fn at(endpoint: &str, name: Option<&str>, region: Option<&str>) -> Result<Bucket, Misplaced> {
        Bucket::at(endpoint, name, region, keys(), Origin::Environment)
    }

    /// URL, name given with it; name, region, and what comes before `/<key>`.
    type Row = [&'static str; 5];

    #[rustfmt::skip]
    const PLACES: &[Row] = &[
        // Amazon: by the host …
        ["https://s3.us-east-2.amazonaws.com", "b", "b", "us-east-2", "https://b.s3.us-east-2.amazonaws.com"],
        ["https://b.s3.us-east-2.amazonaws.com/", "", "b", "us-east-2", "https://b.s3.us-east-2.amazonaws.com"],
        ["https://b.s3.us-east-2.amazonaws.com", "b", "b", "us-east-2", "https://b.s3.us-east-2.amazonaws.com"],
        ["https://s3.amazonaws.com", "b", "b", "us-east-1", "https://b.s3.amazonaws.com"],
        ["https://b.s3.amazonaws.com", "", "b", "us-east-1", "https://b.s3.amazonaws.com"],
        ["https://s3-eu-west-1.amazonaws.com", "b", "b", "eu-west-1", "https://b.s3-eu-west-1.amazonaws.com"],
        ["https://b.s3.dualstack.eu-west-1.amazonaws.com", "", "b", "eu-west-1", "https://b.s3.dualstack.eu-west-1.amazonaws.com"],
        ["https://s3-fips.us-gov-west-1.amazonaws.com", "b", "b", "us-gov-west-1", "https://b.s3-fips.us-gov-west-1.amazonaws.com"],
        ["https://s3.cn-north-1.amazonaws.com.cn", "b", "b", "cn-north-1", "https://b.s3.cn-north-1.amazonaws.com.cn"],
        ["HTTPS://B.S3.EU-West-1.AmazonAWS.com", "", "b", "eu-west-1", "https://b.s3.eu-west-1.amazonaws.com"],
        // … but with no dots before it, and by the path if that is how it was said.
        ["https://s3.us-east-2.amazonaws.com", "a.b", "a.b", "us-east-2", "https://s3.us-east-2.amazonaws.com/a.b"],
        ["https://a.b.s3.us-east-2.amazonaws.com", "", "a.b", "us-east-2", "https://a.b.s3.us-east-2.amazonaws.com"],
        ["https://s3.us-east-2.amazonaws.com/b", "", "b", "us-east-2", "https://s3.us-east-2.amazonaws.com/b"],
        // MinIO and the like.
        ["http://127.0.0.1:9000", "b", "b", "us-east-1", "http://127.0.0.1:9000/b"],
        ["http://[::1]:9000/", "b", "b", "us-east-1", "http://[::1]:9000/b"],
        ["http://localhost:9000/b/", "", "b", "us-east-1", "http://localhost:9000/b"],
        ["https://minio.example.com", "b", "b", "us-east-1", "https://minio.example.com/b"],
        ["https://s3.example.com:8443", "b", "b", "us-east-1", "https://s3.example.com:8443/b"],
        ["https://s3.gra.io.cloud.ovh.net", "b", "b", "gra", "https://s3.gra.io.cloud.ovh.net/b"],
        // Those with regions.
        ["https://s3.eu-central-003.backblazeb2.com", "b", "b", "eu-central-003", "https://s3.eu-central-003.backblazeb2.com/b"],
        ["https://b.s3.eu-central-003.backblazeb2.com", "", "b", "eu-central-003", "https://b.s3.eu-central-003.backblazeb2.com"],
        ["https://nyc3.digitaloceanspaces.com", "b", "b", "nyc3", "https://nyc3.digitaloceanspaces.com/b"],
        ["https://b.nyc3.digitaloceanspaces.com", "", "b", "nyc3", "https://b.nyc3.digitaloceanspaces.com"],
        ["https://s3.eu-central-1.wasabisys.com", "b", "b", "eu-central-1", "https://s3.eu-central-1.wasabisys.com/b"],
        ["https://s3api-eu-ro-1.runpod.io/", "volume", "volume", "EU-RO-1", "https://s3api-eu-ro-1.runpod.io/volume"],
        // Those with one.
        ["https://storage.googleapis.com", "b", "b", "auto", "https://storage.googleapis.com/b"],
        ["https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com", "b", "b", "auto", "https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com/b"],
        ["https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com/b", "", "b", "auto", "https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com/b"],
        ["https://0123456789abcdef0123456789abcdef.eu.r2.cloudflarestorage.com", "b", "b", "auto", "https://0123456789abcdef0123456789abcdef.eu.r2.cloudflarestorage.com/b"],
        ["https://b.0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com", "", "b", "auto", "https://b.0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com"],
    ];

    #[test]
    fn where_a_bucket_is() {
        for [url, given, name, region, base] in PLACES {
            let bucket = at(url, Some(given), None);
            let bucket = bucket.unwrap_or_else(|error| panic!("{url}: {error:?}"));
            let mut found = bucket.endpoint.clone();
            if !bucket.virtual_hosted {
                found = format!("{found}/{}", bucket.name);
            }
            let found = [bucket.name, bucket.region, found];
            assert_eq!(found, [*name, *region, *base], "{url}");
        }
    }

    #[test]
    fn a_region_is_believed_where_the_host_does_not_tell_it() {
        let region = |url| at(url, Some("b"), Some("mars-1")).unwrap().region;
        assert_eq!(region("https://minio.example.com"), "mars-1");
        assert_eq!(region("https://s3.gra.io.cloud.ovh.net"), "mars-1");
        assert_eq!(region("https://b.s3-accelerate.amazonaws.com"), "mars-1");
        assert_eq!(region("https://s3.us-east-2.amazonaws.com"), "us-east-2");
        // Whose bucket a job names knows nothing of the worker's.
        let region = |url| {
            let bucket = Bucket::at(url, Some("b"), Some("mars-1"), keys(), Origin::Job);
            bucket.unwrap().region
        };
        assert_eq!(region("https://minio.example.com"), "mars-1");
        assert_eq!(region("https://s3.gra.io.cloud.ovh.net"), "gra");
        assert_eq!(region("https://s3.amazonaws.com"), "us-east-1");
        assert_eq!(region("https://s3.us-east-2.amazonaws.com"), "us-east-2");
    }

    #[test]
    fn what_is_no_place() {
        let problem = |url| match at(url, Some("b"), None) {
            Err(Misplaced::Url(problem)) => problem,
            other => panic!("{url}: {other:?}"),
        };
        assert!(problem("s3.us-east-2.amazonaws.com").contains("no https://"));
        assert!(problem("ftp://h").contains("`ftp` is not"));
        assert!(problem("https://me:hush@h").contains("a password"));
        assert!(problem("https://h/?x=1").contains("a `?`"));
        assert!(problem("https://h/a/b").contains("more than the name"));
        assert!(!problem("https://").is_empty());
        assert!(matches!(
            at("https://h/a%20b", None, None),
            Err(Misplaced::Url(problem)) if problem.contains("letters, digits")
        ));
        assert!(problem("https://b.s3.us-east-2.amazonaws.com/x").contains("a path as well"));
        assert_eq!(at("https://h", None, None), Err(Misplaced::Unnamed));
        let name = |url, name| match at(url, Some(name), None) {
            Err(Misplaced::Name(problem)) => problem,
            other => panic!("{url}: {other:?}"),
        };
        assert!(name("https://a.s3.us-east-2.amazonaws.com", "b").contains("names the bucket `a`"));
        assert!(name("https://h", "../b").contains("letters, digits"));
        assert!(name("https://h", "a/b").contains("letters, digits"));
        assert!(name("https://h", "..").contains("letters, digits"));
        let keys = Keys {
            id: "A\nB".to_owned(),
            secret: "hush".to_owned(),
        };
        let misplaced = Bucket::at("https://h", Some("b"), None, keys, Origin::Job);
        assert_eq!(misplaced, Err(Misplaced::Keys));
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", at("https://h", Some("b"), None));
        assert!(
            !shown.contains("hush") && !shown.contains("AKID"),
            "{shown}"
        );
    }
}
