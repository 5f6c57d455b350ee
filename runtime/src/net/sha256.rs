//! Checksums of files.

use std::fmt;

use ring::digest::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A SHA-256, in hexadecimal digits where it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum([u8; 32]);

impl Sum {
    #[cfg(all(feature = "cache", unix))]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        ring::digest::digest(&ring::digest::SHA256, bytes).into()
    }

    /// Reads digits; `None`: they are none, or not so many.
    pub(crate) fn parse(digits: &str) -> Option<Self> {
        let digits = digits.as_bytes();
        let mut sum = [0; 32];
        if digits.len() != 2 * sum.len() {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        for (byte, two) in sum.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::try_from(digit(two[0])? * 16 + digit(two[1])?).ok()?;
        }
        Some(Self(sum))
    }

    fn digits(self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (two, byte) in text.chunks_exact_mut(2).zip(self.0) {
            two[0] = DIGITS[usize::from(byte >> 4)];
            two[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }
}

impl From<Digest> for Sum {
    fn from(digest: Digest) -> Self {
        Self(digest.as_ref().try_into().expect("a SHA-256 is 32 bytes"))
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
