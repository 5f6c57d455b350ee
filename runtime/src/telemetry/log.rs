//! The log in the official forms: JSON lines on the platform, readable ones at home.

use std::fmt::{self, Write as _};
#[cfg(unix)]
use std::sync::RwLock;

use podwork_protocol::env;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::error::Error;

/// Name of the span that a job runs in; its field `job_id` marks each line of the log.
pub(crate) const JOB_SPAN: &str = "job";

/// A message longer than this many characters loses its middle.
const MAX_MESSAGE: usize = 4096;

/// The libraries below talk much of what matters only to them.
const QUIET: [&str; 3] = ["hyper", "hyper_util", "rustls"];

const LEVELS: [(&str, LevelFilter); 6] = [
    ("NOTSET", LevelFilter::OFF),
    ("TRACE", LevelFilter::TRACE),
    ("DEBUG", LevelFilter::DEBUG),
    ("INFO", LevelFilter::INFO),
    ("WARN", LevelFilter::WARN),
    ("ERROR", LevelFilter::ERROR),
];

/// A level by its official name or index.
pub(crate) fn parse_level(text: &str) -> Option<LevelFilter> {
    let text = text.trim();
    let by_name = LEVELS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    let by_index = || LEVELS.get(text.parse::<usize>().ok()?);
    by_name.or_else(by_index).map(|(_, level)| *level)
}

/// The level that the environment asks for; INFO where it asks for none.
pub(crate) fn level_from(lookup: impl Fn(&str) -> Option<String>) -> Result<LevelFilter, Error> {
    for variable in [env::LOG_LEVEL, env::DEBUG_LEVEL] {
        if let Some(value) = lookup(variable).filter(|value| !value.is_empty()) {
            return parse_level(&value).ok_or(Error::MalformedVariable {
                variable,
                value,
                problem: "no such level".to_owned(),
                expected: "NOTSET, TRACE, DEBUG, INFO, WARN or ERROR, or its index from 0",
            });
        }
    }
    Ok(LevelFilter::INFO)
}

/// Whether the library of this name is one of those.
pub(crate) fn is_quiet(name: &str) -> bool {
    QUIET.contains(&name)
}

/// Writes the log to standard output from here on, unless the program has a subscriber of its own.
pub(crate) fn init(level: LevelFilter, json: bool) {
    let layer = LogLayer { level, json };
    // An error means that there is one already, and that is respected.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
}

/// The same, and hands all to `other`, too, whatever the log's level is.
#[cfg(feature = "otel")]
pub(crate) fn init_beside<L>(level: LevelFilter, json: bool, other: L)
where
    L: Layer<tracing_subscriber::Registry> + Send + Sync,
{
    use tracing_subscriber::filter::filter_fn;

    let layer = LogLayer { level, json };
    let shown = filter_fn(move |metadata| LogLayer { level, json }.shows(metadata))
        .with_max_level_hint(layer.hint());
    let both = tracing_subscriber::registry()
        .with(other)
        .with(layer.with_filter(shown));
    let _ = tracing::subscriber::set_global_default(both);
}

struct LogLayer {
    level: LevelFilter,
    json: bool,
}

/// Kept with a job's span.
struct JobId(String);

impl LogLayer {
    fn shows(&self, metadata: &Metadata<'_>) -> bool {
        let name = metadata.target().split("::").next().unwrap_or_default();
        let quiet = is_quiet(name) && self.level != LevelFilter::TRACE;
        *metadata.level()
            <= if quiet {
                LevelFilter::WARN.min(self.level)
            } else {
                self.level
            }
            || (metadata.is_span() && metadata.name() == JOB_SPAN)
    }

    /// Job spans are wanted at any level that shows anything.
    fn hint(&self) -> LevelFilter {
        self.level.max(LevelFilter::INFO)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.shows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.hint())
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
        // A log that cannot be written must not end the worker.
        let _ = write(text.as_bytes());
    }
}

/// Writes a line to standard output; not by its lock, for which the threads of many jobs would wait. The system writes
/// whole what is short, and only a long line has to be alone.
#[cfg(unix)]
fn write(mut line: &[u8]) -> rustix::io::Result<()> {
    static LINES: RwLock<()> = RwLock::new(());
    let (_shared, _alone);
    if line.len() <= rustix::pipe::PIPE_BUF {
        _shared = LINES.read();
    } else {
        _alone = LINES.write();
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
    fn levels_go_by_name_or_index() {
        assert_eq!(parse_level("debug"), Some(LevelFilter::DEBUG));
        assert_eq!(parse_level("0"), Some(LevelFilter::OFF));
        assert_eq!(parse_level("5"), Some(LevelFilter::ERROR));
        assert_eq!(parse_level("6"), None);
        let error = level_from(|_| Some("LOUD".to_owned())).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("RUNPOD_LOG_LEVEL is `LOUD`: no such level; set")
        );
    }

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
