//! Compressed responses. The worker asks for uncompressed ones, but some proxies compress nevertheless.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use serde::de::IgnoredAny;

/// The maximum number of encodings of a body. Each of them may need as much memory as the limit of the body.
const MAX_ENCODINGS: usize = 4;

/// A response body, decoded as far as possible.
pub(super) struct Decoded {
    pub(super) body: Bytes,
    /// The reason why the rest could not be decoded.
    pub(super) problem: Option<String>,
}

/// Decodes a body according to its `Content-Encoding`, up to `limit` bytes. If the header is wrong or the compressed
/// data is damaged, a body that is valid JSON nevertheless is intact.
pub(super) fn decode(headers: &HeaderMap, body: Bytes, limit: usize) -> Decoded {
    let mut decoded = Decoded {
        body,
        problem: None,
    };
    if decoded.body.is_empty() || !headers.contains_key(CONTENT_ENCODING) {
        return decoded;
    }
    let lines = headers.get_all(CONTENT_ENCODING).iter();
    let lines = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase());
    let lines: Vec<String> = lines.collect();
    // The order in which the platform applied them.
    let encodings = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
    let encodings: Vec<&str> = encodings.filter(|name| !name.is_empty()).collect();
    let mut is_known = true;
    let mut stages = vec![decoded.body.clone()];
    for encoding in encodings.into_iter().rev().take(MAX_ENCODINGS) {
        let encoded = decoded.body.clone();
        let next = match encoding {
            "identity" => continue,
            "gzip" | "x-gzip" => inflate(MultiGzDecoder::new(&*encoded), limit),
            "deflate" => inflate_raw_or_zlib(&encoded, limit),
            other => {
                is_known = false;
                Decoded {
                    body: encoded,
                    problem: Some(format!(
                        "unsupported `Content-Encoding: {other}`; the worker asks for `identity`"
                    )),
                }
            }
        };
        stages.push(next.body.clone());
        decoded.body = next.body;
        decoded.problem = decoded.problem.or(next.problem);
    }
    if decoded.problem.is_some() {
        // It may be only the end of the compressed data that is damaged.
        if let Some(body) = stages.into_iter().rfind(|body| is_json(body)) {
            return Decoded {
                body,
                problem: None,
            };
        }
    }
    if !is_known {
        decoded.body = Bytes::new();
    }
    decoded
}

/// Decodes `deflate`. Its data has a zlib header, but some servers omit it.
fn inflate_raw_or_zlib(compressed: &[u8], limit: usize) -> Decoded {
    let zlib = inflate(ZlibDecoder::new(compressed), limit);
    if zlib.problem.is_some() {
        let raw = inflate(DeflateDecoder::new(compressed), limit);
        if raw.problem.is_none() || zlib.body.is_empty() {
            return raw;
        }
    }
    zlib
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

fn inflate(compressed: impl Read, limit: usize) -> Decoded {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut body = Vec::new();
    let read: io::Result<usize> = compressed.take(most).read_to_end(&mut body);
    let problem = match read {
        Err(error) => Some(format!("invalid compressed data: {error}")),
        Ok(_) if body.len() > limit => Some(format!(
            "the decompressed response exceeds the limit of {limit} bytes"
        )),
        Ok(_) => None,
    };
    body.truncate(limit);
    Decoded {
        body: body.into(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = br#"{"id":"a","input":"text"}"#;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(encoding: &'static str, body: Vec<u8>, limit: usize) -> Result<Bytes, String> {
        decoded_lines(&[encoding], body, limit)
    }

    /// Decodes a body with several header lines.
    fn decoded_lines(
        encodings: &[&'static str],
        body: Vec<u8>,
        limit: usize,
    ) -> Result<Bytes, String> {
        let mut headers = HeaderMap::new();
        for encoding in encodings {
            headers.append(CONTENT_ENCODING, encoding.parse().unwrap());
        }
        let Decoded { body, problem } = decode(&headers, body.into(), limit);
        problem.map_or(Ok(body), Err)
    }

    #[test]
    fn the_usual_encodings_are_decoded() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(TEXT).unwrap();
        let zlib = zlib.finish().unwrap();
        for (encoding, body) in [
            ("gzip", gzip(TEXT)),
            (" GZip ", gzip(TEXT)),
            ("x-gzip", [gzip(&TEXT[..9]), gzip(&TEXT[9..])].concat()),
            ("deflate", zlib),
            ("identity", TEXT.to_vec()),
            ("", TEXT.to_vec()),
        ] {
            assert_eq!(decoded(encoding, body, TEXT.len()).unwrap(), TEXT);
        }
        assert_eq!(decoded("gzip", Vec::new(), 9).unwrap(), "");
    }

    #[test]
    fn several_encodings_are_decoded_in_reverse_order() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(TEXT).unwrap();
        let both = gzip(&zlib.finish().unwrap());
        for (encodings, body) in [
            (&["identity, gzip"][..], gzip(TEXT)),
            (&["identity", "gzip"], gzip(TEXT)),
            (&["gzip,, identity ,"], gzip(TEXT)),
            (&["deflate, gzip"], both.clone()),
            (&["deflate", "identity", "x-gzip"], both),
        ] {
            let body = decoded_lines(encodings, body, 100);
            assert_eq!(body.unwrap(), TEXT, "{encodings:?}");
        }
    }

    #[test]
    fn readable_json_is_kept_despite_a_wrong_header_or_a_damaged_end() {
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(TEXT).unwrap();
        let raw = raw.finish().unwrap();
        let gzipped = gzip(TEXT);
        let without_trailer = gzipped[..gzipped.len() - 8].to_vec();
        let mut before_garbage = gzipped.clone();
        before_garbage.extend_from_slice(b"garbage");
        for (encoding, body) in [
            ("none", TEXT.to_vec()),
            ("utf-8", TEXT.to_vec()),
            ("gzip", TEXT.to_vec()),
            ("deflate", TEXT.to_vec()),
            ("deflate", raw),
            ("utf-8, gzip", gzipped.clone()),
            ("gzip, gzip", gzipped),
            ("gzip", without_trailer),
            ("gzip", before_garbage),
        ] {
            let body = decoded(encoding, body, TEXT.len());
            assert_eq!(body.as_deref(), Ok(TEXT), "{encoding}");
        }
    }

    #[test]
    fn the_decoded_size_is_limited() {
        let bomb = gzip(&vec![b' '; 1 << 20]);
        assert!(bomb.len() < 5000);
        let error = decoded("gzip", bomb.clone(), (1 << 20) - 1).unwrap_err();
        assert!(
            error.contains("exceeds the limit of 1048575 bytes"),
            "{error}"
        );
        assert_eq!(decoded("gzip", bomb, 1 << 20).unwrap().len(), 1 << 20);
    }

    #[test]
    fn invalid_data_is_an_error() {
        let error = decoded("br", b"\x0b\x02\x80".to_vec(), 100).unwrap_err();
        assert!(
            error.contains("unsupported `Content-Encoding: br`"),
            "{error}"
        );
        let error = decoded("gzip", b"not compressed".to_vec(), 100).unwrap_err();
        assert!(error.contains("invalid compressed data"), "{error}");
        // The beginning of an error response is enough for its explanation.
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, "gzip".parse().unwrap())]);
        let half = gzip(TEXT)[..30].to_vec();
        let Decoded { body, problem } = decode(&headers, half.into(), 100);
        assert!(problem.is_some());
        assert!(TEXT.starts_with(&body), "{body:?}");
    }
}
