//! SHA-256 checksums.

use std::fmt;

use ring::digest::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A SHA-256 digest. Its text form is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum([u8; 32]);

impl Sum {
    #[cfg(all(feature = "cache", unix))]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        ring::digest::digest(&ring::digest::SHA256, bytes).into()
    }

    /// Parses 64 hexadecimal digits. Returns `None` if the text is anything else.
    pub(crate) fn parse(digits: &str) -> Option<Self> {
        let mut sum = [0; 32];
        hex::decode_to_slice(digits, &mut sum).ok()?;
        Some(Self(sum))
    }

    fn digits(self) -> [u8; 64] {
        let mut text = [0; 64];
        hex::encode_to_slice(self.0, &mut text).expect("64 digits have room for 32 bytes");
        text
    }
}

impl From<Digest> for Sum {
    fn from(digest: Digest) -> Self {
        Self(digest.as_ref().try_into().expect("a digest has 32 bytes"))
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl de::Visitor<'_> for Digits {
            type Value = Sum;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Sum, E> {
                Sum::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Digits)
    }
}
