//! The API keys that clients and workers must send.

use std::fmt;

use subtle::ConstantTimeEq as _;

use crate::error::Error;

/// The scheme that clients may write before the key. Schemes are case-insensitive.
const SCHEME: &[u8] = b"Bearer";

/// An API key. It is never empty, so an unset variable on a command line cannot open the platform.
#[derive(Clone)]
pub(crate) struct ApiKey(String);

impl ApiKey {
    /// Checks a key; `name` says in errors which one it is.
    pub(crate) fn parse(name: &'static str, key: &str) -> Result<Self, Error> {
        let problem = if key.trim().is_empty() {
            "it is empty; leave it out to require no key"
        } else if key.trim() != key {
            "it begins or ends with white space, which HTTP does not transmit"
        } else if key.bytes().any(|byte| !matches!(byte, b' '..=b'~')) {
            "it contains characters that are not allowed in an HTTP header"
        } else {
            return Ok(Self(key.to_owned()));
        };
        Err(Error::ApiKey { name, problem })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the value of an `Authorization` header is this key, with or without its scheme.
    pub(crate) fn is_in(&self, header: &[u8]) -> bool {
        let is = |shown: &[u8]| bool::from(shown.ct_eq(self.0.as_bytes()));
        is(header) || is(without_scheme(header))
    }
}

fn without_scheme(header: &[u8]) -> &[u8] {
    match header.split_at_checked(SCHEME.len()) {
        Some((scheme, key))
            if scheme.eq_ignore_ascii_case(SCHEME) && matches!(key.first(), Some(b' ' | b'\t')) =>
        {
            key.trim_ascii_start()
        }
        _ => header,
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_optional_and_case_insensitive() {
        let key = ApiKey::parse("key", "k y").unwrap();
        for header in [
            "k y",
            "Bearer k y",
            "bearer k y",
            "BEARER  k y",
            "bEaReR\tk y",
        ] {
            assert!(key.is_in(header.as_bytes()), "{header}");
        }
        for header in [
            "",
            "k",
            "K Y",
            "Bearerk y",
            "Basic k y",
            "Bearer",
            "Bearer ",
            "Bearer k yy",
        ] {
            assert!(!key.is_in(header.as_bytes()), "{header}");
        }
        // A key may look as if it had a scheme.
        let key = ApiKey::parse("key", "Bearer k").unwrap();
        assert!(key.is_in(b"Bearer k") && key.is_in(b"bearer Bearer k") && !key.is_in(b"k"));
    }

    #[test]
    fn a_key_that_is_invalid_in_a_header_is_rejected() {
        for (key, problem) in [
            ("", "is empty"),
            (" \t", "is empty"),
            ("k\n", "white space"),
            (" k", "white space"),
            ("a\rb", "not allowed"),
            ("a\0b", "not allowed"),
            ("schlüssel", "not allowed"),
        ] {
            let error = ApiKey::parse("--api-key", key).unwrap_err().to_string();
            assert!(error.contains(problem), "{key:?}: {error}");
            assert!(error.contains("--api-key"), "{error}");
        }
    }
}
