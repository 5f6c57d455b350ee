//! Compressed responses. The worker asks for uncompressed ones, but some proxies compress nevertheless.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use hyper::header::{CONTENT_ENCODING, HeaderMap};

/// A response body, decoded as far as possible.
pub(super) struct Decoded {
    pub(super) body: Bytes,
    /// The reason why the rest could not be decoded.
    pub(super) problem: Option<String>,
}

/// Decodes a body according to its `Content-Encoding`, up to `limit` bytes.
pub(super) fn decode(headers: &HeaderMap, body: Bytes, limit: usize) -> Decoded {
    let intact = |body| Decoded {
        body,
        problem: None,
    };
    let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|_| !body.is_empty()) else {
        return intact(body);
    };
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    let encoding = encoding.trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" => intact(body),
        "gzip" | "x-gzip" => inflate(MultiGzDecoder::new(&*body), limit),
        "deflate" => inflate(ZlibDecoder::new(&*body), limit),
        other => Decoded {
            body: Bytes::new(),
            problem: Some(format!(
                "unsupported `Content-Encoding: {other}`; the worker asks for `identity`"
            )),
        },
    }
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
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = br#"{"id":"a","input":"text"}"#;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(encoding: &'static str, body: Vec<u8>, limit: usize) -> Result<Bytes, String> {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding.parse().unwrap())]);
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
        let error = decoded("br", TEXT.to_vec(), 100).unwrap_err();
        assert!(
            error.contains("unsupported `Content-Encoding: br`"),
            "{error}"
        );
        let error = decoded("gzip", TEXT.to_vec(), 100).unwrap_err();
        assert!(error.contains("invalid compressed data"), "{error}");
        // The beginning of an error response is enough for its explanation.
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, "gzip".parse().unwrap())]);
        let half = gzip(TEXT)[..30].to_vec();
        let Decoded { body, problem } = decode(&headers, half.into(), 100);
        assert!(problem.is_some());
        assert!(TEXT.starts_with(&body), "{body:?}");
    }
}
