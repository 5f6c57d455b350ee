//! The log, in the official worker's formats: JSON lines on the platform, plain text elsewhere.

mod filter;

use std::fmt::{self, Write as _};
#[cfg(unix)]
use std::sync::RwLock;

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

#[cfg(feature = "otel")]
pub(crate) use filter::is_quiet;
pub(crate) use filter::{LogFilter, parse_level};

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
    // An error means that the program has set its own subscriber, which stays.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
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
    let _ = tracing::subscriber::set_global_default(both);
    filter.warn_of_invalid();
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
        // A failure to write the log must not end the worker.
        let _ = write(text.as_bytes());
    }
}

/// Writes a line to standard output. Bypasses the lock of [`std::io::Stdout`], for which the threads of many jobs would
/// contend. The system writes a short line atomically. A long line excludes all other writers.
#[cfg(unix)]
fn write(mut line: &[u8]) -> rustix::io::Result<()> {
    static LINES: RwLock<()> = RwLock::new(());
    let (_shared, _exclusive);
    if line.len() <= rustix::pipe::PIPE_BUF {
        _shared = LINES.read();
    } else {
        _exclusive = LINES.write();
    }
    while !line.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(std::io::stdout(), line))?;
        line = &line[written..];
    }
    Ok(())
}

#[cfg(not(unix))]
fn write(line: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;

    std::io::stdout().write_all(line)
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
    match job_id {
        Some(job_id) => format!("{level:7}| {job_id} | {message}\n"),
        None => format!("{level:7}| {message}\n"),
    }
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
    fn lines_have_the_official_forms() {
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
    fn a_long_message_loses_its_middle() {
        assert_eq!(shorten("é".repeat(4096)), "é".repeat(4096));
        let short = shorten("a".repeat(3000) + &"b".repeat(3000));
        assert!(short.starts_with(&"a".repeat(2048)) && short.ends_with(&"b".repeat(2048)));
        assert!(short.contains("\n...TRUNCATED 1904 CHARACTERS...\n"));
    }
}
