//! The URLs of files: how they are checked, and how errors show them.

use std::convert::Infallible;

use data_url::DataUrl;
use url::{ParseError, Url};

use crate::config::without_secrets;

use super::base64::{is_base64_like, media_type};
use super::error::DownloadError;

/// The maximum length of a URL in errors and logs, in bytes.
const LONGEST_SHOWN: usize = 150;
/// The maximum length of other text from the input in errors, in bytes. The text may be the content of a file.
const LONGEST_TEXT: usize = 60;

/// The location of a file.
#[derive(Clone)]
pub(super) enum FileLocation {
    At(Url),
    /// The data URL that contains the file.
    Here(String),
}

impl FileLocation {
    pub(super) fn parse(text: &str) -> Result<Self, DownloadError> {
        let is_data = text
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case("data:"));
        if is_data {
            return Self::parse_data(text.to_owned());
        }
        let url = Url::parse(text).map_err(|error| no_url(text, error))?;
        checked(url).map(Self::At)
    }

    /// Checks a data URL, including the base64 in it, so that an error names the place in the input.
    pub(super) fn parse_data(url: String) -> Result<Self, DownloadError> {
        let invalid = |problem: String| DownloadError::Url {
            url: shown_data(&url),
            problem,
        };
        let data = DataUrl::process(&url).map_err(|error| invalid(error.to_string()))?;
        let decoded = data.decode(|_| Ok::<_, Infallible>(()));
        decoded.map_err(|error| invalid(error.to_string()))?;
        Ok(Self::Here(url))
    }
}

/// Returns the error for a text that is not a URL, with the form that the client probably meant.
fn no_url(text: &str, error: ParseError) -> DownloadError {
    let problem = if error != ParseError::RelativeUrlWithoutBase {
        error.to_string()
    } else if names_base64(text) {
        "it is not a URL; a data URL begins with `data:`".to_owned()
    } else if is_base64_like(text) {
        format!(
            "it is not a URL; if it is base64, write `data:{};base64,` before it",
            media_type(text).unwrap_or("image/png")
        )
    } else {
        "it is not a URL: expected `https://…`, or a data URL such as `data:image/png;base64,…`"
            .to_owned()
    };
    DownloadError::Url {
        url: shown_text(text),
        problem,
    }
}

/// Returns whether a text is a base64 data URL without the `data:`.
pub(super) fn names_base64(text: &str) -> bool {
    let head = &text[..text.floor_char_boundary(LONGEST_TEXT)];
    head.contains(";base64,")
}

/// Returns a URL without its fragment, if it is allowed for downloads.
pub(super) fn checked(mut url: Url) -> Result<Url, DownloadError> {
    let refuse = |problem: String| {
        Err(DownloadError::Url {
            url: shown(&url),
            problem,
        })
    };
    match url.scheme() {
        "http" | "https" => {}
        scheme => {
            let scheme = shortened(scheme, LONGEST_TEXT);
            return refuse(format!("the scheme `{scheme}` is not http, https or data"));
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("the URL contains a user name or a password".to_owned());
    }
    url.set_fragment(None);
    Ok(url)
}

/// Returns a URL without query, fragment and credentials, which may be secrets.
pub(super) fn shown(url: &Url) -> String {
    let Some(host) = url.host_str() else {
        // `me:secret@host` parses as a URL with the scheme `me`.
        let text = without_secrets(&format!("{}:{}", url.scheme(), url.path()));
        return shortened(&text, LONGEST_TEXT);
    };
    let port = url.port().map(|port| format!(":{port}"));
    let (scheme, port) = (url.scheme(), port.unwrap_or_default());
    let text = format!("{scheme}://{host}{port}{}", url.path());
    shortened(&text, LONGEST_SHOWN)
}

/// Returns a data URL without its data. Without a comma, the whole URL may be data.
pub(super) fn shown_data(url: &str) -> String {
    match url.split_once(',') {
        Some((kind, _)) if kind.len() <= LONGEST_TEXT => format!("{kind},…"),
        _ => "data:…".to_owned(),
    }
}

/// Returns a text that is not a URL as errors show it: its beginning, or only its length if it looks like base64.
pub(super) fn shown_text(text: &str) -> String {
    if text.len() > LONGEST_TEXT && (is_base64_like(text) || names_base64(text)) {
        return format!("a text of {} characters", text.chars().count());
    }
    format!("`{}`", shortened(&without_secrets(text), LONGEST_TEXT))
}

/// Cuts the end off a text that is longer than `most` bytes.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    let more = if end < text.len() { "…" } else { "" };
    format!("{}{more}", &text[..end])
}
