//! The URL of an endpoint, from the forms in which users have it.

use anyhow::{Context as _, Result, bail};
use podwork_protocol::address::{is_loopback_host, is_loopback_name};
use reqwest::Url;

/// The host of Runpod's endpoints.
pub(crate) const RUNPOD_HOST: &str = "api.runpod.ai";

/// Operations with which a copied URL may end.
const OPERATIONS: [&str; 3] = ["run", "runsync", "health"];

/// The URL of an endpoint.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// The URL without a trailing slash. It may have a query, which each call keeps.
    base: Url,
}

impl Address {
    /// Parses a URL, or the id of an endpoint at Runpod.
    ///
    /// A trailing slash, `/v2` without an id, and the operation of a copied URL, such as `/run`, may be present or not.
    pub(super) fn parse(endpoint: &str) -> Result<Self> {
        let endpoint = endpoint.trim();
        if endpoint.is_empty() {
            bail!("the endpoint is empty: pass a URL or the id of a Runpod endpoint");
        }
        let mut base = Url::parse(&with_scheme(endpoint))
            .with_context(|| format!("`{endpoint}` is not a valid endpoint URL"))?;
        if !matches!(base.scheme(), "http" | "https") {
            bail!("`{endpoint}` is not an http or https URL");
        }
        base.set_fragment(None);
        let at_runpod = base.host_str() == Some(RUNPOD_HOST);
        if at_runpod {
            // The API key must never travel unencrypted. Both schemes are valid here, so this cannot fail.
            let _ = base.set_scheme("https");
        }
        let segments = base.path_segments().into_iter().flatten();
        let mut path: Vec<String> = segments.map(ToOwned::to_owned).collect();
        while path.last().is_some_and(String::is_empty) {
            path.pop();
        }
        // In `/v2/run`, `run` is an endpoint.
        let is_operation = |path: &[String]| {
            let before = path.len().checked_sub(2).and_then(|at| path.get(at));
            before.is_none_or(|before| before != "v2")
                && path
                    .last()
                    .is_some_and(|last| OPERATIONS.contains(&last.as_str()))
        };
        if is_operation(&path) {
            path.pop();
        }
        // The local platform answers for its default endpoint at the root.
        if path.last().is_some_and(|last| last == "v2") {
            path.pop();
        }
        if at_runpod {
            match path.as_slice() {
                [] => bail!("`{endpoint}` names no endpoint: pass the endpoint's id"),
                [id] => path = vec!["v2".to_owned(), id.clone()],
                _ => {}
            }
        }
        // The segments are percent-encoded already, so they are not appended with `path_segments_mut`.
        base.set_path(&path.join("/"));
        Ok(Self { base })
    }

    /// Returns the URL of a call.
    pub(super) fn call(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    pub(super) fn is_http(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Returns whether the host is this machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.base.host_str().is_some_and(is_loopback_host)
    }

    /// Returns the host if it is `localhost` or a name below it, with or without the final dot.
    pub(super) fn loopback_name(&self) -> Option<&str> {
        self.base.host_str().filter(|host| is_loopback_name(host))
    }
}

/// Shows the URL without parts that may be secret: user name, password and query.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.base.origin().ascii_serialization())?;
        f.write_str(self.base.path().trim_end_matches('/'))
    }
}

fn with_scheme(endpoint: &str) -> String {
    let is_id = endpoint
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if endpoint.contains("://") {
        endpoint.to_owned()
    } else if is_id && endpoint != "localhost" {
        format!("https://{RUNPOD_HOST}/v2/{endpoint}")
    } else {
        format!("http://{endpoint}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(endpoint: &str) -> String {
        Address::parse(endpoint).map_or_else(
            |error| format!("{error:#}"),
            |address| address.call(&["run"]).to_string(),
        )
    }

    #[test]
    fn an_endpoint_is_a_url_or_an_id() {
        assert_eq!(url("abc123"), "https://api.runpod.ai/v2/abc123/run");
        assert_eq!(url("localhost:8000/v2/e"), "http://localhost:8000/v2/e/run");
        assert_eq!(url("127.0.0.1:9"), "http://127.0.0.1:9/run");
        assert_eq!(url("[::1]:9"), "http://[::1]:9/run");
        assert!(url("").contains("is empty"));
        assert!(url("ftp://h").contains("is not an http or https URL"));
        assert!(url("http://").contains("is not a valid endpoint URL"));
    }

    #[test]
    fn an_endpoint_is_found_in_urls_with_more_or_fewer_segments() {
        for form in [
            "http://h:8000/v2/e",
            "http://h:8000/v2/e/",
            "http://h:8000/v2/e//",
            "http://h:8000/v2/e/run",
            "http://h:8000/v2/e/runsync/",
            "http://h:8000/v2/e/health#top",
            " http://h:8000/v2/e ",
        ] {
            assert_eq!(url(form), "http://h:8000/v2/e/run", "{form}");
        }
        for form in [
            "http://h:8000",
            "http://h:8000/",
            "http://h:8000/v2",
            "http://h:8000/v2/",
            "http://h:8000/run",
        ] {
            assert_eq!(url(form), "http://h:8000/run", "{form}");
        }
        assert_eq!(url("http://h/v2/run"), "http://h/v2/run/run");
        assert_eq!(url("http://h/a%20b/v2/e"), "http://h/a%20b/v2/e/run");
        assert_eq!(url("http://h/v2/e?token=t"), "http://h/v2/e/run?token=t");
    }

    #[test]
    fn runpods_own_urls_are_completed() {
        for form in [
            "https://api.runpod.ai/v2/abc",
            "https://api.runpod.ai/abc/",
            "api.runpod.ai/v2/abc/runsync",
            "http://api.runpod.ai/v2/abc",
        ] {
            assert_eq!(url(form), "https://api.runpod.ai/v2/abc/run", "{form}");
        }
        for form in ["https://api.runpod.ai", "https://api.runpod.ai/v2/"] {
            assert!(url(form).contains("names no endpoint"), "{form}");
        }
    }

    #[test]
    fn a_loopback_host_has_many_forms() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("a.localhost", true),
            ("a.b.localhost.", true),
            ("127.0.0.1", true),
            ("127.1", true),
            ("127.8.8.8", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("0.0.0.0", false),
            ("notlocalhost", false),
            ("localhost.example", false),
            ("localhost..", false),
            ("127.0.0.1.example", false),
            ("[::2]", false),
        ] {
            let address = Address::parse(&format!("http://{host}:8000")).unwrap();
            assert_eq!(address.is_loopback(), expected, "{host}");
        }
    }

    #[test]
    fn ids_are_encoded_and_secrets_are_not_shown() {
        let address = Address::parse("http://me:secret@h/v2/e/?token=t").unwrap();
        assert_eq!(address.to_string(), "http://h/v2/e");
        assert_eq!(
            address.call(&["status", "a/b?c"]).path(),
            "/v2/e/status/a%2Fb%3Fc"
        );
    }
}
