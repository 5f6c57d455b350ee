//! The log, in the official worker's formats: JSON lines on the platform, plain text elsewhere. It shows the events of
//! `tracing` and the records of `log`.

mod filter;
#[cfg(unix)]
mod output;
#[cfg(not(unix))]
mod output {
    use std::io::Write as _;

    pub(super) fn write(line: Vec<u8>, _: bool) {
        // A failure to write the log must not end the worker.
        let _ = std::io::stdout().write_all(&line);
    }

    pub(crate) fn flush() {}
}

use std::fmt::{self, Write as _};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_log::{AsLog as _, LogTracer};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

#[cfg(feature = "otel")]
pub(crate) use filter::is_quiet;
pub(crate) use filter::{LogFilter, parse_level};
pub(crate) use output::flush;

/// The name of the span that a job runs in. The log adds the span's field `job_id` to each line.
pub(crate) const JOB_SPAN: &str = "job";

/// Maximum length of a message, in characters. A longer message is truncated in the middle.
const MAX_MESSAGE: usize = 4096;

/// Starts to write the log to standard output, unless the program has set its own `tracing` subscriber.
pub(crate) fn init(filter: LogFilter, json: bool) {
    let layer = LogLayer {
        filter: filter.clone(),
        json,
    };
    start(tracing_subscriber::registry().with(layer), &filter);
}

/// Makes this the subscriber of the program, and of the records of the crate `log`.
fn start(subscriber: impl Subscriber + Send + Sync, filter: &LogFilter) {
    // An error means that the program has set its own subscriber, which stays.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let records = LogTracer::builder().with_max_level(filter.max_level().as_log());
        // An error means that the program has set its own logger, which stays.
        let _ = records.init();
    }
    filter.warn_of_invalid();
}

/// Starts the log like [`init`], together with `other`, which receives all spans and events, whatever the log shows.
#[cfg(feature = "otel")]
pub(crate) fn init_beside<L>(filter: LogFilter, json: bool, other: L)
where
    L: Layer<tracing_subscriber::Registry> + Send + Sync,
{
    use tracing_subscriber::filter::filter_fn;

    let layer = LogLayer {
        filter: filter.clone(),
        json,
    };
    let (shown, max_level) = (filter.clone(), filter.max_level());
    let shown = filter_fn(move |metadata| shown.shows(metadata)).with_max_level_hint(max_level);
    let both = tracing_subscriber::registry()
        .with(other)
        .with(layer.with_filter(shown));
    start(both, &filter);
}

struct LogLayer {
    filter: LogFilter,
    json: bool,
}

/// The id of a job, stored with its span.
struct JobId(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.filter.shows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter.max_level())
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != JOB_SPAN {
            return;
        }
        let mut job_id = JobId(String::new());
        attributes.record(&mut job_id);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(job_id);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let job_id = context.event_scope(event).and_then(|scope| {
            let mut ids =
                scope.filter_map(|span| span.extensions().get::<JobId>().map(|id| id.0.clone()));
            ids.next()
        });
        let message = shorten(line.message + &line.fields);
        let level = level_name(*event.metadata().level());
        let text = format_line(self.json, level, job_id.as_deref(), &message);
        output::write(text.into_bytes(), self.json);
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

fn format_line(json: bool, level: &str, job_id: Option<&str>, message: &str) -> String {
    #[derive(Serialize)]
    struct Json<'a> {
        #[serde(rename = "requestId")]
        request_id: Option<&'a str>,
        message: &'a str,
        level: &'a str,
    }

    if json {
        let line = Json {
            request_id: job_id,
            message,
            level,
        };
        let text = serde_json::to_string(&line).unwrap_or_default();
        return text + "\n";
    }
    let message = printable(message, "\n       | ");
    match job_id {
        Some(job_id) => format!("{level:7}| {} | {message}\n", printable(job_id, "\\n")),
        None => format!("{level:7}| {message}\n"),
    }
}

/// Escapes control characters, which could forge log lines or control a terminal, and replaces line breaks.
fn printable(text: &str, line_break: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => printable.push_str(line_break),
            '\t' => printable.push(c),
            c if c.is_control() => printable.extend(c.escape_default()),
            c => printable.push(c),
        }
    }
    printable
}

fn shorten(message: String) -> String {
    if message.len() <= MAX_MESSAGE {
        return message;
    }
    let length = message.chars().count();
    if length <= MAX_MESSAGE {
        return message;
    }
    let half = MAX_MESSAGE / 2;
    let head: String = message.chars().take(half).collect();
    let tail: String = message.chars().skip(length - half).collect();
    format!(
        "{head}\n...TRUNCATED {} CHARACTERS...\n{tail}",
        length - MAX_MESSAGE
    )
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            // The origin of a record of the crate `log`, which lines of `tracing` do not show either.
            "log.target" | "log.module_path" | "log.file" | "log.line" => Ok(()),
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl Visit for JobId {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "job_id" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_have_the_official_formats() {
        assert_eq!(
            format_line(true, "INFO", Some("j"), "a \"b\""),
            "{\"requestId\":\"j\",\"message\":\"a \\\"b\\\"\",\"level\":\"INFO\"}\n"
        );
        assert_eq!(
            format_line(true, "WARN", None, "m"),
            "{\"requestId\":null,\"message\":\"m\",\"level\":\"WARN\"}\n"
        );
        assert_eq!(
            format_line(false, "INFO", Some("j"), "m"),
            "INFO   | j | m\n"
        );
        assert_eq!(format_line(false, "ERROR", None, "m"), "ERROR  | m\n");
    }

    #[test]
    fn a_line_of_plain_text_cannot_be_forged() {
        assert_eq!(
            format_line(
                false,
                "INFO",
                Some("j\nERROR  | x"),
                "a\r\nERROR  | b\u{1b}[2J\tc\u{9b}"
            ),
            "INFO   | j\\nERROR  | x | a\\r\n       | ERROR  | b\\u{1b}[2J\tc\\u{9b}\n"
        );
    }

    #[test]
    fn a_long_message_is_shortened_in_the_middle() {
        assert_eq!(shorten("é".repeat(4096)), "é".repeat(4096));
        let short = shorten("a".repeat(3000) + &"b".repeat(3000));
        assert!(short.starts_with(&"a".repeat(2048)) && short.ends_with(&"b".repeat(2048)));
        assert!(short.contains("\n...TRUNCATED 1904 CHARACTERS...\n"));
    }
}
