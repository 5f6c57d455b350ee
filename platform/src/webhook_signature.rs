//! Signatures of webhook calls, as specified by [Standard Webhooks](https://www.standardwebhooks.com).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::error::Error;

/// The prefix of a base64-encoded secret.
const ENCODED: &str = "whsec_";
/// The minimum length of a secret, in bytes.
const SHORTEST: usize = 16;

/// The secret that a receiver of webhook calls shares with the platform.
#[derive(Clone)]
pub(crate) struct Secret(hmac::Key);

impl Secret {
    /// Parses `whsec_` followed by base64, or takes any other text as it is.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        // A text file may begin with a byte order mark.
        let text = text.trim_start_matches('\u{feff}').trim();
        let secret = match text.strip_prefix(ENCODED) {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map_err(|error| Error::WebhookSecret(format!("invalid base64: {error}")))?,
            None => text.as_bytes().to_vec(),
        };
        if secret.is_empty() {
            return Err(Error::WebhookSecret("it is empty".to_owned()));
        }
        if secret.len() < SHORTEST {
            return Err(Error::WebhookSecret("too short".to_owned()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    /// Returns the signature of a call made at this Unix time, in seconds.
    pub(crate) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut signing = hmac::Context::with_key(&self.0);
        signing.update(format!("{id}.{timestamp}.").as_bytes());
        signing.update(body);
        format!("v1,{}", STANDARD.encode(signing.sign()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // The example in the libraries of the specification's authors.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        assert_eq!(
            secret.sign(id, 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn an_invalid_webhook_secret_is_refused() {
        for (text, why) in [
            ("", "empty"),
            (" \n", "empty"),
            ("whsec_", "empty"),
            ("short", "too short"),
            ("whsec_?", "invalid base64"),
        ] {
            let said = Secret::parse(text).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
