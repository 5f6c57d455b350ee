//! The text formats of metrics, and the choice between them.

use std::fmt;

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsFormat {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
}

/// A quality, in thousandths, with which a client accepts a format, and how specifically it names the format.
type Preference = (u8, u16);

impl MetricsFormat {
    /// Returns the format that the client prefers. `OpenMetrics` if it has no preference, and the format of Prometheus,
    /// which every program for metrics reads, if it accepts neither.
    pub(super) fn for_accept(headers: &HeaderMap) -> Self {
        let mut ranges = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|range| !range.is_empty())
            .peekable();
        if ranges.peek().is_none() {
            return Self::OpenMetrics;
        }
        let (mut open_metrics, mut prometheus): (Preference, Preference) = ((0, 0), (0, 0));
        for range in ranges {
            let quality = quality(range);
            open_metrics = open_metrics.max((Self::OpenMetrics.specificity(range), quality));
            prometheus = prometheus.max((Self::Prometheus.specificity(range), quality));
        }
        let accepted = |(specificity, quality)| if specificity == 0 { 0 } else { quality };
        if accepted(open_metrics) > 0 && accepted(open_metrics) >= accepted(prometheus) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Returns how specifically a media range names this format: 0 if it does not.
    fn specificity(self, range: &str) -> u8 {
        let (name, kind, versions): (_, _, &[&str]) = match self {
            Self::OpenMetrics => (
                "application/openmetrics-text",
                "application/*",
                &["1.0.0", "0.0.1"],
            ),
            Self::Prometheus => ("text/plain", "text/*", &["0.0.4"]),
        };
        let media = range.split(';').next().unwrap_or_default().trim();
        if media == "*/*" {
            1
        } else if media.eq_ignore_ascii_case(kind) {
            2
        } else if media.eq_ignore_ascii_case(name) {
            match parameter(range, "version") {
                None => 3,
                Some(version) if versions.contains(&version) => 4,
                Some(_) => 0,
            }
        } else {
            0
        }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        })
    }

    pub(super) fn encode(self, registry: &Registry) -> Result<String, fmt::Error> {
        let mut encoded = String::new();
        match self {
            Self::OpenMetrics => text::encode(&mut encoded, registry)?,
            Self::Prometheus => prometheus_text::encode(&mut encoded, registry)?,
        }
        Ok(encoded)
    }
}

/// Returns the value of a parameter of a media range.
fn parameter<'a>(range: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = range
        .split(';')
        .skip(1)
        .filter_map(|part| part.split_once('='));
    let (_, value) = parameters.find(|(found, _)| found.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"'))
}

/// Returns the quality of a media range, in thousandths. An invalid one counts as the default, 1.
fn quality(range: &str) -> u16 {
    let quality: Option<f32> = parameter(range, "q").and_then(|text| text.parse().ok());
    let quality = quality.filter(|quality| (0.0..=1.0).contains(quality));
    // Between 0 and 1000.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    quality.map_or(1000, |quality| (quality * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_selects_the_metrics_format() {
        use MetricsFormat::{OpenMetrics, Prometheus};

        let prometheus_2 = "application/openmetrics-text;version=1.0.0,\
                            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3_text = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                                 text/plain;version=0.0.4;q=0.5,*/*;q=0.4";
        for (accept, format) in [
            ("", OpenMetrics),
            ("*/*", OpenMetrics),
            (prometheus_2, OpenMetrics),
            ("application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", OpenMetrics),
            (
                "text/plain;q=0.5, application/openmetrics-text;q=0.6",
                OpenMetrics,
            ),
            ("text/plain;version=0.0.4", Prometheus),
            ("Text/Plain; Version=\"0.0.4\"; charset=utf-8", Prometheus),
            ("text/plain", Prometheus),
            ("text/*", Prometheus),
            (prometheus_3_text, Prometheus),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", Prometheus),
            (
                "application/openmetrics-text;q=0.4,text/plain;q=0.5",
                Prometheus,
            ),
            ("application/openmetrics-text;q=0,*/*", Prometheus),
            ("application/openmetrics-text;version=9.9", Prometheus),
            ("application/json", Prometheus),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(MetricsFormat::for_accept(&headers), format, "{accept}");
        }
        assert_eq!(MetricsFormat::for_accept(&HeaderMap::new()), OpenMetrics);
    }
}
