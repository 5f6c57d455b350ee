//! The filter of the log: one level for everything, and levels for single targets from `RUST_LOG`.

use podwork_protocol::env;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::JOB_SPAN;
use crate::config::given;
use crate::error::Error;

const RUST_LOG: &str = "RUST_LOG";

/// Libraries whose messages below WARN matter only to their own developers. The log shows these messages at level
/// TRACE, or if `RUST_LOG` names the library.
const QUIET: [&str; 3] = ["hyper", "hyper_util", "rustls"];

/// The official worker's level names, each at its official index.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("NOTSET", LevelFilter::OFF),
    ("TRACE", LevelFilter::TRACE),
    ("DEBUG", LevelFilter::DEBUG),
    ("INFO", LevelFilter::INFO),
    ("WARN", LevelFilter::WARN),
    ("ERROR", LevelFilter::ERROR),
];

/// Returns the level with this official name or index.
pub(crate) fn parse_level(text: &str) -> Option<LevelFilter> {
    let text = text.trim();
    let by_name = LEVELS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    let by_index = || LEVELS.get(text.parse::<usize>().ok()?);
    by_name.or_else(by_index).map(|(_, level)| *level)
}

/// Returns whether this is the crate name of a [quiet](QUIET) library.
#[cfg(feature = "otel")]
pub(crate) fn is_quiet(name: &str) -> bool {
    QUIET.contains(&name)
}

/// Decides which spans and events the log shows.
#[derive(Debug, Clone)]
pub(crate) struct LogFilter {
    targets: Targets,
    /// Invalid entries of `RUST_LOG`.
    invalid: Vec<String>,
}

impl LogFilter {
    /// Reads the filter from the environment.
    ///
    /// The general level is the first of these that is set: `flag`, `RUNPOD_LOG_LEVEL`, `RUNPOD_DEBUG_LEVEL`, and the
    /// entry of `RUST_LOG` without a target. Default: INFO. Entries of `RUST_LOG` with a target set the level of that
    /// target.
    ///
    /// # Errors
    /// Returns an error if `RUNPOD_LOG_LEVEL` or `RUNPOD_DEBUG_LEVEL` is invalid. Invalid entries of `RUST_LOG` are
    /// only logged.
    pub(crate) fn read(
        flag: Option<LevelFilter>,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let rust_log = given(&lookup, RUST_LOG).unwrap_or_default();
        let (entries, invalid) = parse_entries(&rust_log);
        let level = match flag {
            Some(level) => level,
            None => level_variable(&lookup)?
                .or(entries.default_level())
                .unwrap_or(LevelFilter::INFO),
        };
        let mut targets = Targets::new().with_default(level);
        if level != LevelFilter::TRACE {
            let is_named =
                |library: &str| entries.iter().any(|(name, _)| library.starts_with(name));
            let quiet = QUIET.into_iter().filter(|library| !is_named(library));
            // Targets match by prefix. The `::` excludes crates whose name only begins with this one.
            targets.extend(
                quiet.map(|library| (format!("{library}::"), level.min(LevelFilter::WARN))),
            );
        }
        targets.extend(entries.iter());
        Ok(Self { targets, invalid })
    }

    /// Returns whether the log shows this span or event. Spans of jobs are enabled at any level, since they carry the
    /// job's id.
    pub(super) fn shows(&self, metadata: &Metadata<'_>) -> bool {
        let (target, level) = (metadata.target(), metadata.level());
        self.targets.would_enable(target, level)
            || (metadata.is_span() && metadata.name() == JOB_SPAN)
    }

    /// Returns the most verbose level of any target, but at least INFO, the level of job spans.
    pub(super) fn max_level(&self) -> LevelFilter {
        let levels = self.targets.iter().map(|(_, level)| level);
        let levels = levels.chain(self.targets.default_level());
        levels
            .max()
            .unwrap_or(LevelFilter::INFO)
            .max(LevelFilter::INFO)
    }

    /// Logs a warning about invalid entries. Other programs use `RUST_LOG` too, so these entries do not prevent the
    /// start.
    pub(super) fn warn_of_invalid(&self) {
        if !self.invalid.is_empty() {
            tracing::warn!(
                entries = self.invalid.join(","),
                "Ignoring invalid entries of RUST_LOG; expected `level` or `target=level`, such as \
                 `info,my_worker=debug`."
            );
        }
    }
}

fn level_variable(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<LevelFilter>, Error> {
    for variable in [env::LOG_LEVEL, env::DEBUG_LEVEL] {
        if let Some(value) = given(&lookup, variable) {
            return match parse_level(&value) {
                Some(level) => Ok(Some(level)),
                None => Err(Error::MalformedVariable {
                    variable,
                    value,
                    problem: "not a log level".to_owned(),
                    expected: "NOTSET, TRACE, DEBUG, INFO, WARN or ERROR, or its index (0 to 5)",
                }),
            };
        }
    }
    Ok(None)
}

/// Parses the entries one by one, so that an invalid entry does not affect the others.
fn parse_entries(rust_log: &str) -> (Targets, Vec<String>) {
    let (mut entries, mut invalid) = (Targets::new(), Vec::new());
    let parts = rust_log.split(',').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        // `Targets` does not support entries for spans and fields (`[…]`) and regular expressions (`/…`).
        let is_plain = !part.starts_with('=') && !part.contains(['[', '/', ' ']);
        match part.parse::<Targets>() {
            Ok(parsed) if is_plain => {
                if let Some(level) = parsed.default_level() {
                    entries = entries.with_default(level);
                }
                entries.extend(parsed.iter());
            }
            _ => invalid.push(part.to_owned()),
        }
    }
    (entries, invalid)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn read(flag: Option<LevelFilter>, table: &[(&str, &str)]) -> Result<LogFilter, Error> {
        LogFilter::read(flag, |name| {
            let found = table.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    /// Returns the most verbose level at which the log shows a target.
    fn level(filter: &LogFilter, target: &str) -> Option<Level> {
        let verbose_first = [
            Level::TRACE,
            Level::DEBUG,
            Level::INFO,
            Level::WARN,
            Level::ERROR,
        ];
        let is_shown = |level: &Level| filter.targets.would_enable(target, level);
        verbose_first.into_iter().find(is_shown)
    }

    #[test]
    fn levels_are_read_by_name_or_index() {
        assert_eq!(parse_level("debug"), Some(LevelFilter::DEBUG));
        assert_eq!(parse_level("0"), Some(LevelFilter::OFF));
        assert_eq!(parse_level("5"), Some(LevelFilter::ERROR));
        assert_eq!(parse_level("6"), None);
        let error = read(None, &[(env::LOG_LEVEL, "LOUD")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "RUNPOD_LOG_LEVEL is `LOUD`: not a log level; set it to NOTSET, TRACE, DEBUG, INFO, WARN or ERROR, or its \
             index (0 to 5)"
        );
    }

    #[test]
    fn the_first_source_of_a_level_wins() {
        let sources = [
            (env::LOG_LEVEL, "ERROR"),
            (env::DEBUG_LEVEL, "WARN"),
            (RUST_LOG, "debug"),
        ];
        let app = |flag, table: &[_]| level(&read(flag, table).unwrap(), "app");
        let flag = Some(LevelFilter::TRACE);
        assert_eq!(app(flag, &sources), Some(Level::TRACE));
        assert_eq!(app(None, &sources), Some(Level::ERROR));
        assert_eq!(app(None, &sources[1..]), Some(Level::WARN));
        assert_eq!(app(None, &sources[2..]), Some(Level::DEBUG));
        assert_eq!(app(None, &[(RUST_LOG, "off")]), None);
        assert_eq!(app(None, &[(RUST_LOG, " ")]), Some(Level::INFO));
        let unset = [(env::LOG_LEVEL, ""), (env::DEBUG_LEVEL, " ")];
        assert_eq!(app(None, &unset), Some(Level::INFO));
    }

    #[test]
    fn targets_can_have_their_own_levels() {
        let rust_log = (RUST_LOG, "warn, app=debug,app::noisy=error,model");
        let filter = read(None, &[rust_log]).unwrap();
        assert_eq!(level(&filter, "app::core"), Some(Level::DEBUG));
        assert_eq!(level(&filter, "app::noisy::part"), Some(Level::ERROR));
        assert_eq!(level(&filter, "model"), Some(Level::TRACE));
        assert_eq!(level(&filter, "podwork"), Some(Level::WARN));
        assert_eq!(filter.max_level(), LevelFilter::TRACE);

        let filter = read(None, &[rust_log, (env::LOG_LEVEL, "ERROR")]).unwrap();
        assert_eq!(level(&filter, "app::core"), Some(Level::DEBUG));
        assert_eq!(level(&filter, "podwork"), Some(Level::ERROR));
    }

    #[test]
    fn quiet_libraries_are_logged_at_trace_or_by_name() {
        let hyper = |table: &[_]| level(&read(None, table).unwrap(), "hyper::proto::h1");
        assert_eq!(hyper(&[(env::LOG_LEVEL, "DEBUG")]), Some(Level::WARN));
        assert_eq!(hyper(&[(env::LOG_LEVEL, "ERROR")]), Some(Level::ERROR));
        assert_eq!(hyper(&[(env::LOG_LEVEL, "TRACE")]), Some(Level::TRACE));
        assert_eq!(hyper(&[(RUST_LOG, "debug")]), Some(Level::WARN));
        assert_eq!(hyper(&[(RUST_LOG, "hyper=debug")]), Some(Level::DEBUG));
        assert_eq!(hyper(&[(RUST_LOG, "hyper::proto=info")]), Some(Level::INFO));
        // Another crate whose name begins with the name of a quiet one.
        let filter = read(None, &[]).unwrap();
        assert_eq!(level(&filter, "hyperbole"), Some(Level::INFO));
        assert_eq!(level(&filter, "hyper_util::client"), Some(Level::WARN));
    }

    #[test]
    fn an_invalid_log_filter_entry_does_not_affect_the_others() {
        let rust_log = "info,,app[job{id=1}]=debug,=warn,app=loud,a=b=c,model=debug,x/regex,";
        let filter = read(None, &[(RUST_LOG, rust_log)]).unwrap();
        let invalid = [
            "app[job{id=1}]=debug",
            "=warn",
            "app=loud",
            "a=b=c",
            "x/regex",
        ];
        assert_eq!(filter.invalid, invalid);
        assert_eq!(level(&filter, "app"), Some(Level::INFO));
        assert_eq!(level(&filter, "model"), Some(Level::DEBUG));
    }

    #[test]
    fn job_spans_are_enabled_at_every_level() {
        let filter = read(Some(LevelFilter::OFF), &[]).unwrap();
        assert_eq!(filter.max_level(), LevelFilter::INFO);
    }
}
