//! URL templates: the platform gives a worker its URLs as text with placeholders.
//!
//! The hosted platform puts ids in the path. Self-hosted ones may put them in the query, or end the template with `?`.
//! Therefore placeholders are replaced everywhere, and nothing else is assumed about a template.

use std::borrow::Cow;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters to percent-encode: all except the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The characters that are invalid in a URL. A template may contain them, for example in the name of a GPU.
const INVALID: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Percent-encodes a text for use anywhere in a path or a query.
#[must_use]
pub fn encode(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, RESERVED).into()
}

/// Placeholder of the worker id in the job-done, job-stream and ping templates.
const WORKER: &str = "$RUNPOD_POD_ID";
/// Placeholder of the job id in those templates, and of the worker id in the job-take template.
const ID: &str = "$ID";
/// The path segment of the job-take URL. The batch URL and the stop URL have other segments in its place.
const TAKE_SEGMENT: &str = "/job-take/";

/// A URL template that contains the worker id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlTemplate(String);

impl UrlTemplate {
    /// Inserts the worker id into a job-done, job-stream or ping template, in place of `$RUNPOD_POD_ID`.
    #[must_use]
    pub fn of_worker(template: &str, worker_id: &str) -> Self {
        let template = utf8_percent_encode(template.trim(), INVALID).to_string();
        Self(template.replace(WORKER, &encode(worker_id)))
    }

    /// Inserts the worker id into a job-take template, in place of `$ID`.
    #[must_use]
    pub fn of_take(template: &str, worker_id: &str) -> Self {
        Self(
            Self::of_worker(template, worker_id)
                .0
                .replace(ID, &encode(worker_id)),
        )
    }

    /// Returns the URL without a job id.
    #[must_use]
    pub fn url(&self) -> Url {
        Url(self.0.clone())
    }

    /// Returns the URL for a job, with its id in place of `$ID`.
    #[must_use]
    pub fn job(&self, job_id: &str) -> Url {
        Url(self.0.replace(ID, &encode(job_id)))
    }

    /// Returns the URL to take several jobs: `/job-take/` becomes `/job-take-batch/`. A template without that segment
    /// is returned unchanged.
    #[must_use]
    pub fn batch(&self) -> Url {
        Url(self.0.replace(TAKE_SEGMENT, "/job-take-batch/"))
    }

    /// Returns the URL of the stop channel: `/job-take/` becomes `/job-stop/`. `None` if the template has no such
    /// segment.
    #[must_use]
    pub fn stop(&self) -> Option<Url> {
        self.0
            .contains(TAKE_SEGMENT)
            .then(|| Url(self.0.replace(TAKE_SEGMENT, "/job-stop/")))
    }
}

/// A URL to which query parameters can be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// Adds `name=value` to the query, with the value percent-encoded.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let separator = match self.0.find('?') {
            None => "?",
            Some(_) if self.0.ends_with(['?', '&']) => "",
            Some(_) => "&",
        };
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{separator}{name}={}", encode(value));
        self
    }

    /// Returns the URL as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Url> for String {
    fn from(url: Url) -> Self {
        url.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(template: &str) -> Url {
        UrlTemplate::of_take(template, "w 1")
            .url()
            .with("job_in_progress", "0")
    }

    #[test]
    fn url_templates_of_runpod() {
        let take = UrlTemplate::of_take("https://api/v2/e/job-take/$ID?gpu=NVIDIA+H200", "w1");
        assert_eq!(
            take.url().with("job_in_progress", "1").as_str(),
            "https://api/v2/e/job-take/w1?gpu=NVIDIA+H200&job_in_progress=1"
        );
        assert_eq!(
            take.batch().with("batch_size", "4").as_str(),
            "https://api/v2/e/job-take-batch/w1?gpu=NVIDIA+H200&batch_size=4"
        );
        assert_eq!(
            take.stop().unwrap().as_str(),
            "https://api/v2/e/job-stop/w1?gpu=NVIDIA+H200"
        );
        let done =
            UrlTemplate::of_worker("https://api/v2/e/job-done/$RUNPOD_POD_ID/$ID?gpu=x", "w1");
        assert_eq!(
            done.job("j/1").with("isStream", "false").as_str(),
            "https://api/v2/e/job-done/w1/j%2F1?gpu=x&isStream=false"
        );
    }

    #[test]
    fn invalid_characters_are_encoded() {
        let take = UrlTemplate::of_take("http://h/job-take/$ID?gpu=NVIDIA GeForce%20RTX é|\n", "w");
        assert_eq!(
            take.url().as_str(),
            "http://h/job-take/w?gpu=NVIDIA%20GeForce%20RTX%20%C3%A9%7C"
        );
    }

    #[test]
    fn parameters_are_added_to_any_form_of_url() {
        assert_eq!(
            taken("http://h/take").as_str(),
            "http://h/take?job_in_progress=0"
        );
        assert_eq!(
            taken("http://h/take?").as_str(),
            "http://h/take?job_in_progress=0"
        );
        assert_eq!(
            taken("http://h/take?pod=$ID&token=t").as_str(),
            "http://h/take?pod=w%201&token=t&job_in_progress=0"
        );
        assert_eq!(
            taken("http://h/take?a=1&").as_str(),
            "http://h/take?a=1&job_in_progress=0"
        );
    }

    #[test]
    fn a_template_without_a_take_segment_has_no_stop_channel() {
        let take = UrlTemplate::of_take("http://h/next?pod=$ID", "w");
        assert_eq!(take.stop(), None);
        assert_eq!(take.batch(), take.url());
    }
}
