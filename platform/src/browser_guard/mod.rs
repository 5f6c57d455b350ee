//! The guard against web pages of other sites. A browser lets every page send requests to this machine, and it sends
//! them from behind the firewall. What gives a page away are the headers that it cannot choose: `Host`, `Origin` and
//! `Sec-Fetch-Site`.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::uri::{Authority, Uri};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use podwork_protocol::address::is_loopback_name;

use crate::error::Error;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The hosts and origins that the platform answers to.
#[derive(Debug, Clone)]
pub(crate) struct BrowserGuard {
    /// True if clients need no API key. A page never knows the key, so only `Origin` is checked if there is one.
    keyless: bool,
    /// The names of the platform besides `localhost`, in lower case.
    hosts: Vec<String>,
    /// The origins of browser apps, as browsers write them.
    origins: Vec<HeaderValue>,
}

impl Default for BrowserGuard {
    fn default() -> Self {
        Self {
            keyless: true,
            hosts: Vec::new(),
            origins: Vec::new(),
        }
    }
}

impl BrowserGuard {
    pub(crate) fn new(keyless: bool, hosts: &[String], origins: &[String]) -> Result<Self, Error> {
        Ok(Self {
            keyless,
            hosts: hosts
                .iter()
                .map(|host| host_name(host))
                .collect::<Result<_, _>>()?,
            origins: origins
                .iter()
                .map(|origin| origin_of(origin))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Adds the host that the platform listens on.
    pub(crate) fn add_host(&mut self, host: &str) {
        self.hosts.push(normalized(host));
    }

    /// Returns the origins of browser apps.
    pub(crate) fn origins(&self) -> &[HeaderValue] {
        &self.origins
    }

    /// Checks the host and the origin of a request. The error says why the request is refused.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
        if self.keyless {
            self.check_hosts(uri, headers)?;
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Ok(()),
            (Some(origin), None) if self.origins.contains(origin) || is_own(origin, headers) => {
                Ok(())
            }
            (Some(origin), _) => Err(format!(
                "foreign origin `{}`: this platform does not accept calls of its pages; allow it with --allow-origin (of \
                 a worker: --rp_api_allow_origin)",
                String::from_utf8_lossy(origin.as_bytes())
            )),
        }
    }

    /// Checks that a request without `Origin`, such as that of a link or an image, does not come from a page of another
    /// origin.
    pub(crate) fn check_site(&self, headers: &HeaderMap) -> Result<(), String> {
        if !self.keyless || headers.contains_key(header::ORIGIN) {
            return Ok(());
        }
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
        // `none`: the user has typed the address.
        match sites.find(|site| *site != "same-origin" && *site != "none") {
            None => Ok(()),
            Some(site) => Err(format!(
                "`Sec-Fetch-Site: {}`: this platform does not accept calls of other sites' pages",
                String::from_utf8_lossy(site.as_bytes())
            )),
        }
    }

    /// A page whose name has been rebound to this machine (DNS rebinding) has the same origin as the platform, but not
    /// its name. An address cannot be rebound.
    fn check_hosts(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
        // Browsers never omit the header, so its absence is left to other clients.
        let named = headers.get_all(header::HOST).iter();
        let named = named.map(|host| String::from_utf8_lossy(host.as_bytes()));
        let target = uri.authority().map(|authority| authority.as_str().into());
        match named.chain(target).find(|host| !self.is_allowed(host)) {
            None => Ok(()),
            Some(host) => Err(format!(
                "foreign host `{host}`: without an API key, this platform answers only to `localhost`, to addresses and \
                 to the names given with --allow-host (of a worker: --rp_api_allow_host)"
            )),
        }
    }

    fn is_allowed(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else {
            return false;
        };
        if authority.as_str().contains('@') {
            return false;
        }
        let host = normalized(authority.host());
        is_loopback_name(authority.host()) || self.hosts.contains(&host) || is_address(&host)
    }
}

/// Returns whether a host is an address of one machine. Browsers let any page call the unspecified address, without
/// `Sec-Fetch-Site`.
fn is_address(host: &str) -> bool {
    // Also as an IPv4 address in an IPv6 one: `::ffff:0.0.0.0`.
    host.parse()
        .is_ok_and(|address: IpAddr| !address.to_canonical().is_unspecified())
}

/// Returns the host in lower case, without brackets and the final dot of an absolute name.
fn normalized(host: &str) -> String {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Returns whether a page has been loaded from the platform: its origin is the request's `Host`.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    let (Some(host), Some((scheme, origin))) = (host, origin) else {
        return false;
    };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |authority: &str| {
        let authority = authority.to_ascii_lowercase();
        authority
            .strip_suffix(default_port)
            .map_or(authority.clone(), str::to_owned)
    };
    bare(host) == bare(origin)
}

/// Checks a name that the user allows.
fn host_name(host: &str) -> Result<String, Error> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let name = normalized(host.trim());
    let address = name.parse::<Ipv6Addr>().is_ok();
    if address || (!name.is_empty() && name.bytes().all(fits)) {
        return Ok(name);
    }
    Err(Error::AllowedHost(host.to_owned()))
}

/// Checks an origin that the user allows, and returns it as browsers write it.
fn origin_of(text: &str) -> Result<HeaderValue, Error> {
    let invalid = || Error::AllowedOrigin(text.to_owned());
    let (scheme, authority) = text.trim().split_once("://").ok_or_else(invalid)?;
    let authority = authority
        .strip_suffix('/')
        .unwrap_or(authority)
        .to_ascii_lowercase();
    let scheme = scheme.to_ascii_lowercase();
    let authority = match scheme.as_str() {
        "http" => authority.strip_suffix(":80").unwrap_or(&authority),
        "https" => authority.strip_suffix(":443").unwrap_or(&authority),
        // Browser extensions have schemes of their own.
        _ => &authority,
    };
    let is_scheme = scheme
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_host = authority.parse::<Authority>().is_ok() && !authority.contains(['@', '*']);
    if scheme.is_empty() || !is_scheme || !is_host {
        return Err(invalid());
    }
    HeaderValue::from_str(&format!("{scheme}://{authority}")).map_err(|_| invalid())
}

#[cfg(test)]
mod tests;
