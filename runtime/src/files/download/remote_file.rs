//! A file in a job's input.

use std::fmt;

use reqwest::header::HeaderMap;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use crate::net::sha256::Sum;

use super::address::{FileLocation, shortened, shown, shown_data};
use super::error::DownloadError;
use super::headers;

/// The maximum length of an invalid digest in errors, in bytes.
const LONGEST_DIGITS: usize = 80;

/// A file that a job's input names: a URL, a data URL that contains the file, or an object
/// `{"url": …, "sha256": …, "name": …, "headers": …}`, in which only `url` is required.
///
/// For input that may also be plain base64, use [`InputFile`](super::InputFile).
///
/// If the URL is invalid or not allowed, the job fails before its handler is called, and the error names the field:
/// ``invalid input at `image`: cannot download ftp://…: …``.
///
/// ```
/// use podwork::files::RemoteFile;
/// use podwork::testing::TestJob;
/// use podwork::{Context, Result, handler};
/// use serde_json::json;
///
/// #[handler]
/// async fn length(file: RemoteFile, cx: Context) -> Result<u64> {
///     let path = file.download(&cx).await?;
///     Ok(std::fs::metadata(path)?.len())
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let job = TestJob::new(json!("data:,Hello%2C%20world")).run::<length>().await;
/// assert_eq!(job.result.unwrap(), json!(12));
///
/// let wrong = json!({"url": "data:,Hello", "sha256": "0".repeat(64)});
/// let job = TestJob::new(wrong).run::<length>().await;
/// assert!(job.result.unwrap_err().message().contains("checksum mismatch"));
/// # });
/// ```
#[derive(Clone)]
pub struct RemoteFile {
    pub(super) location: FileLocation,
    pub(super) sha256: Option<Sum>,
    pub(super) name: Option<String>,
    /// The client's own headers. Their values may be secrets.
    pub(super) headers: HeaderMap,
}

impl RemoteFile {
    /// Creates a file from its URL, which must be `http:`, `https:` or `data:`.
    ///
    /// ```
    /// use podwork::files::RemoteFile;
    ///
    /// let weights = RemoteFile::new("https://example.com/weights.safetensors")?
    ///     .sha256("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")?
    ///     .name("weights");
    /// # Ok::<(), podwork::files::DownloadError>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the URL is invalid, has another scheme, or contains a user name or a password.
    pub fn new(url: &str) -> Result<Self, DownloadError> {
        FileLocation::parse(url).map(Self::at)
    }

    /// Creates a file without options.
    pub(super) fn at(location: FileLocation) -> Self {
        Self {
            location,
            sha256: None,
            name: None,
            headers: HeaderMap::new(),
        }
    }

    /// Requires this SHA-256 digest (64 hexadecimal digits). The download of a file with another digest fails.
    ///
    /// # Errors
    /// Returns an error if `digits` is not a SHA-256 digest.
    pub fn sha256(mut self, digits: &str) -> Result<Self, DownloadError> {
        self.sha256 = Some(Sum::parse(digits).ok_or_else(|| DownloadError::NoChecksum {
            given: shortened(digits, LONGEST_DIGITS),
        })?);
        Ok(self)
    }

    /// Sets the name of the file. Default: the name in the server's response, or else in the URL. Only the last
    /// component of a path is used.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Adds a header to the request, such as `Authorization` for a file that is not public. Replaces an earlier one of
    /// the same name. It has no effect on a data URL.
    ///
    /// It is sent only to the scheme, host and port of the URL: a redirect to another host drops all headers of the
    /// file. Errors and logs never show the value.
    ///
    /// ```
    /// use podwork::files::RemoteFile;
    ///
    /// # let token = "hf_x";
    /// let weights = RemoteFile::new("https://huggingface.co/org/model/resolve/main/model.safetensors")?
    ///     .header("Authorization", &format!("Bearer {token}"))?;
    /// # Ok::<(), podwork::files::DownloadError>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the name or the value is invalid, or if downloads set this header themselves, such as
    /// `Range`.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, DownloadError> {
        headers::add(&mut self.headers, name, value)?;
        Ok(self)
    }

    /// Returns the URL.
    pub fn url(&self) -> &str {
        match &self.location {
            FileLocation::At(url) => url.as_str(),
            FileLocation::Here(url) => url,
        }
    }

    /// Returns the URL as errors show it.
    pub(super) fn shown(&self) -> String {
        match &self.location {
            FileLocation::At(url) => shown(url),
            FileLocation::Here(url) => shown_data(url),
        }
    }
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteFile({})", self.shown())
    }
}

impl<'de> Deserialize<'de> for RemoteFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FileVisitor {
            forms: r#"a URL, or an object {"url": …, "sha256": …, "name": …, "headers": …}"#,
            parse: RemoteFile::new,
        })
    }
}

/// The object form. Unknown members are rejected, because one may be a misspelt `sha256`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FileObject {
    url: String,
    sha256: Option<String>,
    name: Option<String>,
    /// Checked by hand, since an error of serde would show the values.
    headers: Option<Value>,
}

/// Reads a file from either form.
pub(super) struct FileVisitor {
    /// The forms that errors name.
    pub(super) forms: &'static str,
    /// Parses the text, or the member `url` of the object.
    pub(super) parse: fn(&str) -> Result<RemoteFile, DownloadError>,
}

impl<'de> Visitor<'de> for FileVisitor {
    type Value = RemoteFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.forms)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RemoteFile, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RemoteFile, A::Error> {
        let described = FileObject::deserialize(MapAccessDeserializer::new(map))?;
        let mut file = (self.parse)(&described.url).map_err(A::Error::custom)?;
        if let Some(digits) = described.sha256 {
            file = file.sha256(&digits).map_err(A::Error::custom)?;
        }
        match described.headers {
            None | Some(Value::Null) => {}
            Some(Value::Object(given)) => {
                headers::add_all(&mut file.headers, &given).map_err(A::Error::custom)?;
            }
            Some(_) => {
                let problem = "`headers` is not an object of header names and values";
                return Err(A::Error::custom(problem));
            }
        }
        file.name = described.name;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn complaint(input: Value) -> String {
        let file: Result<RemoteFile, _> = serde_json::from_value(input);
        file.unwrap_err().to_string()
    }

    #[test]
    fn downloadable_urls() {
        for input in [
            json!("https://example.com/cat.png?key=1#top"),
            json!("HTTP://example.com"),
            json!("data:image/png;base64,AAAA"),
            json!("DATA:,x"),
            json!({"url": "https://example.com/"}),
            json!({"url": "data:,x", "sha256": null, "name": "x"}),
            json!({"url": "data:,x", "sha256": "aB".repeat(32)}),
        ] {
            let file: Result<RemoteFile, _> = serde_json::from_value(input.clone());
            file.unwrap_or_else(|error| panic!("{input}: {error}"));
        }
    }

    #[test]
    fn invalid_urls_are_refused_with_the_reason() {
        for (input, why) in [
            (json!("cat.png"), "`cat.png`: it is not a URL: expected"),
            (
                json!("/etc/passwd"),
                "`/etc/passwd`: it is not a URL: expected",
            ),
            (
                json!("file:///etc/passwd"),
                "`file` is not http, https or data",
            ),
            (json!("gopher://example.com/"), "`gopher` is not"),
            (json!("http://"), "empty host"),
            (json!("http://me@example.com/"), "a user name or a password"),
            (
                json!("http://:pw@example.com/"),
                "a user name or a password",
            ),
            (json!("data:text/plain"), "comma"),
            (json!(7), "expected a URL, or an object"),
            (json!({"sha256": "00"}), "missing field `url`"),
            (
                json!({"url": "data:,x", "sha265": "00"}),
                "unknown field `sha265`",
            ),
            (
                json!({"url": "data:,x", "sha256": "00"}),
                "invalid SHA-256 digest `00`",
            ),
            (
                json!({"url": "data:,x", "sha256": "é".repeat(32)}),
                "invalid SHA-256 digest",
            ),
        ] {
            let error = complaint(input);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn errors_do_not_contain_secrets() {
        let shown = |url: &str| format!("{:?}", RemoteFile::new(url).unwrap());
        assert_eq!(
            shown("https://example.com:8443/a?X-Signature=secret#secret"),
            "RemoteFile(https://example.com:8443/a)"
        );
        assert_eq!(
            shown("data:image/png;base64,c2VjcmV0"),
            "RemoteFile(data:image/png;base64,…)"
        );
        for url in [
            "http://me:secret@example.com/?secret",
            "https://me:secret@exa mple/",
            "https://me:sec?secret@example.com:x/",
            "me:secret@example.com/?secret",
            "bucket.example.com/a?X-Amz-Signature=secret",
            "//example.com/#secret",
            "data:text/plain;secret",
        ] {
            let error = complaint(json!(url));
            assert!(!error.contains("sec"), "{error}");
        }
        let error = complaint(json!("bucket.example.com/a?secret"));
        assert!(
            error.starts_with("cannot download `bucket.example.com/a`: "),
            "{error}"
        );
    }
}
