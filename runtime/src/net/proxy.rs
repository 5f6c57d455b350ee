//! The proxies from the environment, for the clients that honour them. Requests to loopback addresses use no proxy.

use std::sync::OnceLock;

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use tracing::warn;

/// The variables with the proxy for each scheme of URLs. As in the official worker, the first one that is set counts.
const HTTP: [&str; 2] = ["http_proxy", "HTTP_PROXY"];
const HTTPS: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
const NO: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// The loopback hosts, which a proxy cannot reach for us.
const LOOPBACK: &str = "localhost,localhost.,127.0.0.0/8,::1,::ffff:127.0.0.0/104";

/// The proxies of this process.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxies {
    /// The URL, which may contain a password.
    http: Option<String>,
    /// The URL, which may contain a password.
    https: Option<String>,
    /// The hosts to connect to directly.
    no_proxy: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

impl Proxies {
    /// Returns the proxies from the environment of this process, which is read once.
    pub(crate) fn of_process() -> &'static Self {
        static PROXIES: OnceLock<Proxies> = OnceLock::new();
        PROXIES.get_or_init(|| Self::read(|name| std::env::var(name).ok()))
    }

    /// Reads the variables. An empty one counts as not set. One that is not the URL of a supported proxy is ignored
    /// with a warning, since it may be meant for other programs.
    fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| {
                let value = lookup(name)?.trim().to_owned();
                (!value.is_empty()).then_some((name, value))
            })
        };
        let proxy = |names| {
            let (name, value) = first(names)?;
            let url = proxy_url(&value);
            if url.is_none() {
                warn!(
                    variable = name,
                    "Ignoring an invalid proxy variable: expected a URL such as http://proxy:3128."
                );
            }
            url
        };
        let no_proxy = first(NO).map_or(String::new(), |(_, hosts)| hosts);
        Self {
            http: proxy(HTTP),
            https: proxy(HTTPS),
            no_proxy: format!("{no_proxy},{LOOPBACK}"),
        }
    }

    /// Returns the rules by which hyper's connector selects the proxy for a URL, or `None` if there are no proxies.
    pub(crate) fn matcher(&self) -> Option<Matcher> {
        if self.http.is_none() && self.https.is_none() {
            return None;
        }
        let matcher = Matcher::builder()
            .http(self.http.clone().unwrap_or_default())
            .https(self.https.clone().unwrap_or_default())
            .no(self.no_proxy.clone());
        Some(matcher.build())
    }

    /// Returns the proxies for reqwest.
    #[cfg(any(feature = "download", feature = "upload", feature = "otel"))]
    pub(crate) fn for_reqwest(&self) -> impl Iterator<Item = reqwest::Proxy> {
        let http = self.http.as_deref().map(reqwest::Proxy::http);
        let https = self.https.as_deref().map(reqwest::Proxy::https);
        let no_proxy = reqwest::NoProxy::from_string(&self.no_proxy);
        let proxies = http.into_iter().chain(https).filter_map(Result::ok);
        proxies.map(move |proxy| proxy.no_proxy(no_proxy.clone()))
    }
}

/// Parses the URL of a proxy. The scheme is optional. Returns `None` if the URL is invalid, or if the proxy does not
/// use HTTP.
fn proxy_url(value: &str) -> Option<String> {
    let url = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let uri: Uri = url.parse().ok()?;
    let speaks_http = matches!(uri.scheme_str(), Some("http" | "https"));
    (speaks_http && uri.host().is_some_and(|host| !host.is_empty())).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Proxies {
        Proxies::read(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    /// Returns the proxy for a URL.
    fn proxy(proxies: &Proxies, url: &str) -> Option<String> {
        let intercept = proxies.matcher()?.intercept(&url.parse().unwrap())?;
        Some(intercept.uri().to_string())
    }

    #[test]
    fn proxies_are_read_per_scheme_in_lower_and_upper_case() {
        let proxies = read(&[
            ("http_proxy", "one:3128"),
            ("HTTP_PROXY", "http://two:3128"),
            ("HTTPS_PROXY", "https://me:pw@three"),
        ]);
        let (plain, tls) = ("http://api.example/", "https://api.example/");
        assert_eq!(proxy(&proxies, plain).unwrap(), "http://one:3128/");
        assert_eq!(proxy(&proxies, tls).unwrap(), "https://three/");
        assert!(!format!("{proxies:?}").contains("pw"), "{proxies:?}");

        let proxies = read(&[("https_proxy", " "), ("HTTPS_PROXY", "http://four:1")]);
        assert_eq!(proxy(&proxies, plain), None);
        assert_eq!(proxy(&proxies, tls).unwrap(), "http://four:1/");
    }

    #[test]
    fn an_invalid_proxy_is_ignored() {
        for value in [
            "",
            " ",
            "socks5://proxy:1080",
            "http://",
            "file:///proxy",
            "a b",
        ] {
            let proxies = read(&[("HTTP_PROXY", value)]);
            assert!(proxies.matcher().is_none(), "{value}");
        }
    }

    #[test]
    fn loopback_and_hosts_in_no_proxy_are_connected_to_directly() {
        let all = [
            ("HTTP_PROXY", "proxy:1"),
            ("NO_PROXY", "corp.example, 10.0.0.0/8"),
        ];
        let proxies = read(&all);
        for direct in [
            "http://localhost:8000/",
            "http://app.localhost/",
            "http://localhost.:8000/",
            "http://app.localhost./",
            "http://[::ffff:127.0.0.1]:8000/",
            "http://127.0.0.1:8000/",
            "http://127.8.8.8/",
            "http://[::1]:8000/",
            "http://corp.example/",
            "http://api.corp.example/",
            "http://10.1.2.3/",
        ] {
            assert_eq!(proxy(&proxies, direct), None, "{direct}");
        }
        for proxied in [
            "http://notcorp.example/",
            "http://11.0.0.1/",
            "http://[::2]/",
        ] {
            assert!(proxy(&proxies, proxied).is_some(), "{proxied}");
        }
        let proxies = read(&[("HTTP_PROXY", "proxy:1"), ("no_proxy", "*")]);
        assert_eq!(proxy(&proxies, "http://api.example/"), None);
    }
}
