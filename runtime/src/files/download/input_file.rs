//! A file in a job's input, as a URL or as base64.

use std::ops::Deref;

use serde::de::{Deserialize, Deserializer};

use super::address::{FileLocation, names_base64};
use super::base64;
use super::error::DownloadError;
use super::remote_file::{FileVisitor, RemoteFile};

/// A file in a job's input in any of the usual forms: a URL, a data URL, or plain base64.
///
/// It is a [`RemoteFile`] that also accepts base64 without a data URL around it, in the standard or the URL-safe
/// alphabet, with or without padding and line breaks. Like a [`RemoteFile`], it can also be an object with this text as
/// its `url`. A text with a scheme, such as `https:`, is a URL; any other text is base64. So a path without a scheme, such
/// as `images`, may count as base64.
///
/// If it is invalid, the job fails before its handler is called. The error names the field and the position, and never
/// repeats the content: ``invalid input at `image`: … base64 has no such character (position 7)``.
///
/// ```
/// use podwork::files::InputFile;
/// use podwork::testing::TestJob;
/// use podwork::{Context, Result, handler};
/// use serde::Deserialize;
/// use serde_json::json;
///
/// #[derive(Deserialize)]
/// struct Request {
///     image: InputFile,
/// }
///
/// #[handler]
/// async fn measure(input: Request, cx: Context) -> Result<u64> {
///     let path = input.image.download(&cx).await?;
///     Ok(std::fs::metadata(path)?.len())
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// for image in ["R0lGODlhAQABAA==", "data:image/gif;base64,R0lGODlhAQABAA=="] {
///     let job = TestJob::new(json!({ "image": image })).run::<measure>().await;
///     assert_eq!(job.result.unwrap(), json!(10));
/// }
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct InputFile(RemoteFile);

impl InputFile {
    /// Creates a file from a URL, a data URL or base64.
    ///
    /// # Errors
    /// Returns an error if the text is neither, or if the URL is not allowed.
    pub fn new(text: &str) -> Result<Self, DownloadError> {
        read(text).map(Self)
    }
}

impl Deref for InputFile {
    type Target = RemoteFile;

    fn deref(&self) -> &RemoteFile {
        &self.0
    }
}

impl From<InputFile> for RemoteFile {
    fn from(file: InputFile) -> Self {
        file.0
    }
}

impl<'de> Deserialize<'de> for InputFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = deserializer.deserialize_any(FileVisitor {
            forms: r#"a URL, base64, or an object {"url": …, "sha256": …, "name": …, "headers": …}"#,
            parse: read,
        });
        file.map(Self)
    }
}

fn read(text: &str) -> Result<RemoteFile, DownloadError> {
    if has_scheme(text) || names_base64(text) {
        return RemoteFile::new(text);
    }
    let invalid = |problem| DownloadError::Base64 { problem };
    let location = FileLocation::parse_data(base64::data_url(text).map_err(invalid)?);
    let location = location.map_err(|_| {
        invalid("as base64, it is incomplete: its length or its padding is wrong".to_owned())
    });
    location.map(RemoteFile::at)
}

/// Returns whether a text begins with a URL's scheme. Base64 contains no colon.
fn has_scheme(text: &str) -> bool {
    let Some((scheme, _)) = text.trim_start().split_once(':') else {
        return false;
    };
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    scheme.starts_with(|letter: char| letter.is_ascii_alphabetic()) && scheme.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(input: Value) -> Result<String, String> {
        let file: Result<InputFile, _> = serde_json::from_value(input);
        file.map(|file| file.url().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_usual_form_is_accepted() {
        for (given, url) in [
            ("https://example.com/a.png", "https://example.com/a.png"),
            ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
            ("DATA:,x", "DATA:,x"),
            ("AAEC", "data:application/octet-stream;base64,AAEC"),
            ("AAECAw==", "data:application/octet-stream;base64,AAECAw=="),
            ("AAECAw", "data:application/octet-stream;base64,AAECAw"),
            ("AA\r\nEC\n", "data:application/octet-stream;base64,AAEC"),
            ("-_-_", "data:application/octet-stream;base64,+/+/"),
            ("iVBORw0KGgoA", "data:image/png;base64,iVBORw0KGgoA"),
            ("/9j/4AAQ", "data:image/jpeg;base64,/9j/4AAQ"),
        ] {
            assert_eq!(parsed(json!(given)).as_deref(), Ok(url), "{given}");
            let object = json!({ "url": given, "name": "x" });
            assert_eq!(parsed(object).as_deref(), Ok(url), "{given}");
        }
    }

    #[test]
    fn errors_name_the_position_and_not_the_content() {
        let long = "A".repeat(5000);
        for (given, why) in [
            (json!(""), "it is empty"),
            (json!("cat.png"), "no such character (position 4)"),
            (json!("/etc/passwd?"), "no such character (position 12)"),
            (json!("AAAAA"), "its length or its padding is wrong"),
            (json!("AAA==="), "its length or its padding is wrong"),
            (
                json!(format!("{long}%")),
                "no such character (position 5001)",
            ),
            (
                json!(format!("{long}A")),
                "its length or its padding is wrong",
            ),
            (
                json!(format!("image/png;base64,{long}")),
                "a data URL begins with `data:`",
            ),
            (
                json!(format!("data:image/png;base64,{long}%")),
                "data:image/png;base64,…: base64",
            ),
            (
                json!(format!("s3:{long}")),
                "the scheme `s3` is not http, https or data",
            ),
            (
                json!("s3://bucket/key"),
                "the scheme `s3` is not http, https or data",
            ),
            (json!(5), "expected a URL, base64, or an object"),
        ] {
            let error = parsed(given).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains(&"A".repeat(100)), "{error}");
        }
    }
}
