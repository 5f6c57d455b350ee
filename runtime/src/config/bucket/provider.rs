//! The host names of storage providers.

use super::DEFAULT_REGION;

/// The facts that the host name of an S3-compatible storage provider contains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ProviderHost {
    /// The bucket, if it is part of the host name.
    pub(super) bucket: Option<String>,
    /// The region, by the rules of a known provider.
    pub(super) region: Option<String>,
    /// The region of an unknown provider, guessed from the form of the name.
    pub(super) likely_region: Option<String>,
    /// The provider expects the bucket in the host name rather than in the path.
    pub(super) prefers_virtual: bool,
    /// The rules of the provider are known.
    pub(super) is_known: bool,
    /// The service rejects signed URLs.
    pub(super) cannot_sign_urls: bool,
}

/// Providers whose host names are `[<bucket>.][<service>.]<region>.<domain>`: the service, and the domain.
const REGIONAL: &[(&str, &str)] = &[
    ("s3", "backblazeb2.com"),
    ("", "digitaloceanspaces.com"),
    ("s3", "wasabisys.com"),
    ("s3", "scw.cloud"),
    ("", "linodeobjects.com"),
    ("", "vultrobjects.com"),
    ("", "your-objectstorage.com"),
];

impl ProviderHost {
    /// Reads a host name.
    pub(super) fn of(domain: &str) -> Self {
        let domain = domain.to_ascii_lowercase();
        let below = |suffix: &str| -> Option<Vec<&str>> {
            let rest = domain.strip_suffix(suffix)?.strip_suffix('.')?;
            Some(rest.split('.').collect())
        };
        if let Some(labels) = below("amazonaws.com").or_else(|| below("amazonaws.com.cn")) {
            return Self::amazon(&labels);
        }
        if let Some(labels) = below("r2.cloudflarestorage.com") {
            // [<bucket>.]<account>[.<jurisdiction>]
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
            // The S3 API of network volumes does not support signed URLs.
            return Self {
                cannot_sign_urls: true,
                ..Self::named(&[], &datacenter.to_ascii_uppercase())
            };
        }
        Self::regional(&below).unwrap_or_else(|| Self::guess(&domain))
    }

    /// Reads a host name of one of the [`REGIONAL`] providers.
    fn regional<'a>(below: &impl Fn(&str) -> Option<Vec<&'a str>>) -> Option<Self> {
        REGIONAL.iter().find_map(|(service, suffix)| {
            let labels = below(suffix)?;
            match &labels[..] {
                [before @ .., region] if service.is_empty() => Some(Self::named(before, region)),
                [before @ .., label, region] if label == service => {
                    Some(Self::named(before, region))
                }
                _ => None,
            }
        })
    }

    /// Guesses the region of an unknown provider: in `s3.<region>.<name>.<domain>` it follows `s3`.
    fn guess(domain: &str) -> Self {
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

    /// Reads `s3.<region>`, `s3-<region>`, `s3.dualstack.<region>`, `s3-fips.<region>` or `s3`, with or without a
    /// bucket before it.
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
            prefers_virtual: true,
            is_known: true,
            cannot_sign_urls: false,
        }
    }

    fn named(before: &[&str], region: &str) -> Self {
        Self {
            bucket: (!before.is_empty()).then(|| before.join(".")),
            region: Some(region.to_owned()),
            is_known: true,
            ..Self::default()
        }
    }
}
