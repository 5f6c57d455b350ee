//! The URLs of files: how they are checked, and how errors show them.

use data_url::DataUrl;
use url::Url;

use crate::config::without_secrets;

use super::error::DownloadError;

/// The maximum length of a URL in errors and logs, in bytes.
const LONGEST_SHOWN: usize = 200;

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
            return match DataUrl::process(text) {
                Ok(_) => Ok(Self::Here(text.to_owned())),
                Err(error) => Err(DownloadError::Url {
                    url: shown_data(text),
                    problem: error.to_string(),
                }),
            };
        }
        let url = Url::parse(text).map_err(|error| DownloadError::Url {
            url: format!("`{}`", shortened(&without_secrets(text))),
            problem: error.to_string(),
        })?;
        checked(url).map(Self::At)
    }
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
        scheme => return refuse(format!("the scheme `{scheme}` is not http, https or data")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("the URL contains a user name or a password".to_owned());
    }
    url.set_fragment(None);
    Ok(url)
}

/// Returns a URL without query, fragment and credentials, which may be secrets.
pub(super) fn shown(url: &Url) -> String {
    let text = match url.host_str() {
        Some(host) => {
            let port = url.port().map(|port| format!(":{port}"));
            let (scheme, port) = (url.scheme(), port.unwrap_or_default());
            format!("{scheme}://{host}{port}{}", url.path())
        }
        // `me:secret@host` parses as a URL with the scheme `me`.
        None => without_secrets(&format!("{}:{}", url.scheme(), url.path())),
    };
    shortened(&text)
}

/// Returns a data URL without its data. Without a comma, the whole URL may be data.
pub(super) fn shown_data(url: &str) -> String {
    match url.split_once(',') {
        Some((kind, _)) => format!("{},…", shortened(kind)),
        None => "data:…".to_owned(),
    }
}

pub(super) fn shortened(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST_SHOWN);
    let more = if end < text.len() { "…" } else { "" };
    format!("{}{more}", &text[..end])
}
