//! The command-line flags of a worker binary: those of the official worker, and `--rp_schema`. All other arguments
//! belong to the program.

use std::ffi::OsString;
use std::fmt::Display;

use lexopt::{Arg, Parser};
use tracing::level_filters::LevelFilter;

use crate::error::Error;
use crate::telemetry::log;

/// The flags given on the command line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct Args {
    /// `--test_input JSON`
    pub(crate) test_input: Option<String>,
    /// `--test_output JSON`
    pub(crate) test_output: Option<String>,
    /// `--rp_serve_api`
    pub(crate) serve_api: bool,
    /// `--rp_api_host HOST`
    pub(crate) api_host: Option<String>,
    /// `--rp_api_port PORT`
    pub(crate) api_port: Option<u16>,
    /// `--rp_api_allow_host NAME`, repeatable
    pub(crate) api_allow_host: Vec<String>,
    /// `--rp_api_allow_origin ORIGIN`, repeatable
    pub(crate) api_allow_origin: Vec<String>,
    /// `--rp_api_allow_private_webhooks`
    pub(crate) api_allow_private_webhooks: bool,
    /// `--rp_api_concurrency N`
    pub(crate) api_concurrency: Option<usize>,
    /// `--rp_log_level LEVEL`
    pub(crate) log_level: Option<LevelFilter>,
    /// `--rp_debugger`
    pub(crate) debugger: bool,
    /// `--rp_schema`
    pub(crate) schema: bool,
}

impl Args {
    /// Parses the flags in `args`, the command line without the program's name.
    ///
    /// Skips unknown arguments and everything after `--`: they belong to the program.
    ///
    /// # Errors
    /// Returns an error if a flag has a missing, invalid or unexpected value.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let mut parsed = Self::default();
        // Collected, because lexopt requires a `'static` iterator.
        let args: Vec<OsString> = args.into_iter().collect();
        let mut parser = Parser::from_args(args);
        while let Some(flag) = next_flag(&mut parser) {
            let parser = &mut parser;
            match flag.as_str() {
                "test_input" => parsed.test_input = Some(text(parser, "--test_input")?),
                "test_output" => parsed.test_output = Some(text(parser, "--test_output")?),
                "rp_serve_api" => parsed.serve_api = switch(parser, "--rp_serve_api")?,
                "rp_schema" => parsed.schema = switch(parser, "--rp_schema")?,
                "rp_debugger" => parsed.debugger = switch(parser, "--rp_debugger")?,
                "rp_api_host" => parsed.api_host = Some(text(parser, "--rp_api_host")?),
                "rp_api_allow_host" => {
                    let host = text(parser, "--rp_api_allow_host")?;
                    parsed.api_allow_host.push(host);
                }
                "rp_api_allow_origin" => {
                    let origin = text(parser, "--rp_api_allow_origin")?;
                    parsed.api_allow_origin.push(origin);
                }
                "rp_api_allow_private_webhooks" => {
                    let flag = "--rp_api_allow_private_webhooks";
                    parsed.api_allow_private_webhooks = switch(parser, flag)?;
                }
                "rp_api_port" => {
                    let port = value(
                        parser,
                        "--rp_api_port",
                        "a port number (0 to 65535)",
                        |text| text.parse().ok(),
                    );
                    parsed.api_port = Some(port?);
                }
                "rp_api_concurrency" => {
                    let expected = "a whole number above 0";
                    let jobs = value(parser, "--rp_api_concurrency", expected, |text| {
                        text.parse().ok().filter(|jobs| *jobs > 0)
                    });
                    parsed.api_concurrency = Some(jobs?);
                }
                "rp_log_level" => {
                    let expected = "ERROR, WARN, INFO, DEBUG, TRACE or NOTSET";
                    let level = value(parser, "--rp_log_level", expected, log::parse_level);
                    parsed.log_level = Some(level?);
                }
                // A flag of the program: skip it, and the value attached to it.
                _ => drop(parser.optional_value()),
            }
        }
        Ok(parsed)
    }

    /// Returns the log level set by `--rp_log_level` or `--rp_debugger`, if any.
    pub(crate) fn level(&self) -> Option<LevelFilter> {
        self.log_level
            .or_else(|| self.debugger.then_some(LevelFilter::DEBUG))
    }
}

/// Returns the name of the next long flag, without its dashes. Skips positional arguments and short flags, and stops at
/// `--`.
fn next_flag(parser: &mut Parser) -> Option<String> {
    loop {
        match parser.next() {
            Ok(Some(Arg::Long(name))) => return Some(name.to_owned()),
            // In `-n5` and `-n=5`, the rest may be the value of `-n`.
            Ok(Some(Arg::Short(_))) => drop(parser.optional_value()),
            // The only possible error is an attached value that was not read. It cannot occur here, and would be
            // harmless.
            Ok(Some(Arg::Value(_))) | Err(_) => {}
            Ok(None) => return None,
        }
    }
}

fn text(parser: &mut Parser, flag: &'static str) -> Result<String, Error> {
    let is_attached = parser.clone().optional_value().is_some();
    match parser.value() {
        Ok(value) if value == "--" && !is_attached => Err(invalid(flag, "requires a value")),
        Ok(value) => value
            .into_string()
            .map_err(|_| invalid(flag, "the value is not valid UTF-8")),
        Err(_) => Err(invalid(flag, "requires a value")),
    }
}

fn value<T>(
    parser: &mut Parser,
    flag: &'static str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, Error> {
    let text = text(parser, flag)?;
    let invalid = || invalid(flag, format_args!("expected {expected}, got `{text}`"));
    parse(&text).ok_or_else(invalid)
}

fn switch(parser: &mut Parser, flag: &'static str) -> Result<bool, Error> {
    match parser.optional_value() {
        None => Ok(true),
        Some(_) => Err(invalid(flag, "does not take a value")),
    }
}

fn invalid(flag: &'static str, problem: impl Display) -> Error {
    Error::Flag {
        flag,
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, Error> {
        Args::parse(args.iter().map(Into::into))
    }

    #[test]
    fn official_flags_can_be_mixed_with_the_users_own() {
        let args = parse(&[
            "--model",
            "big",
            "--rp_serve_api",
            "serve",
            "--rp_api_port=9000",
            "-v",
            "--rp_api_host",
            "0.0.0.0",
            "--rp_api_allow_host",
            "a",
            "--rp_api_allow_host=b",
            "--rp_api_allow_origin",
            "http://localhost:3000",
            "--rp_api_allow_private_webhooks",
            "--rp_log_level",
            "debug",
            "--test_input",
            r#"{"a=b":1}"#,
        ]);
        assert_eq!(
            args.unwrap(),
            Args {
                serve_api: true,
                api_port: Some(9000),
                api_host: Some("0.0.0.0".to_owned()),
                api_allow_host: vec!["a".to_owned(), "b".to_owned()],
                api_allow_origin: vec!["http://localhost:3000".to_owned()],
                api_allow_private_webhooks: true,
                log_level: Some(LevelFilter::DEBUG),
                test_input: Some(r#"{"a=b":1}"#.to_owned()),
                ..Args::default()
            }
        );
    }

    #[test]
    fn flag_values_may_be_attached() {
        let args = parse(&[
            r#"--test_input={"input": "a=b"}"#,
            "--test_output=--",
            "--rp_api_concurrency=3",
        ]);
        let args = args.unwrap();
        assert_eq!(args.test_input.unwrap(), r#"{"input": "a=b"}"#);
        assert_eq!(args.test_output.unwrap(), "--");
        assert_eq!(args.api_concurrency, Some(3));
        assert_eq!(
            parse(&["--test_input="]).unwrap().test_input.unwrap(),
            "",
            "an empty value is a value"
        );
    }

    #[test]
    fn flag_values_may_look_like_flags() {
        let args = parse(&["--test_input", "--rp_serve_api", "--rp_api_host", "-"]).unwrap();
        assert_eq!(args.test_input.unwrap(), "--rp_serve_api");
        assert_eq!(args.api_host.unwrap(), "-");
        assert!(!args.serve_api);
    }

    #[test]
    fn arguments_after_two_dashes_are_left_to_the_user() {
        let args = parse(&[
            "--rp_debugger",
            "--",
            "--rp_serve_api",
            "--rp_api_port",
            "x",
        ]);
        let expected = Args {
            debugger: true,
            ..Args::default()
        };
        assert_eq!(args.unwrap(), expected);
        let error = parse(&["--test_input", "--", "x"]).unwrap_err();
        assert_eq!(error.to_string(), "--test_input: requires a value");
    }

    #[test]
    fn values_attached_to_the_users_flags_are_not_read() {
        for own in [
            "--prompt=--rp_serve_api",
            "--prompt=",
            "-p--rp_serve_api",
            "-p=--rp_serve_api",
            "-rp_serve_api",
            "rp_serve_api",
            "---rp_serve_api",
            "--rp_serve",
            "--RP_SERVE_API",
            "-",
            "",
        ] {
            assert_eq!(parse(&[own]).unwrap(), Args::default(), "{own}");
            let args = parse(&[own, "--rp_schema", own]).unwrap();
            assert!(args.schema && !args.serve_api, "{own}");
        }
        // The parser cannot know whether the user's flag takes a value, so it parses a known flag after it.
        assert!(parse(&["--prompt", "--rp_schema"]).unwrap().schema);
    }

    #[cfg(unix)]
    #[test]
    fn arguments_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStringExt as _;

        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let args = [
            bytes(b"\xff"),
            bytes(b"--\xff=1"),
            bytes(b"-\xff"),
            "--rp_schema".into(),
        ];
        assert!(Args::parse(args).unwrap().schema);
        let error = Args::parse([bytes(b"--test_input=\xff")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--test_input: the value is not valid UTF-8"
        );
    }

    #[test]
    fn an_error_names_the_flag_and_the_value() {
        let error = |args: &[&str]| parse(args).unwrap_err().to_string();
        assert_eq!(error(&["--test_input"]), "--test_input: requires a value");
        assert_eq!(
            error(&["--rp_api_port", "70000"]),
            "--rp_api_port: expected a port number (0 to 65535), got `70000`"
        );
        assert_eq!(
            error(&["--rp_api_concurrency=0"]),
            "--rp_api_concurrency: expected a whole number above 0, got `0`"
        );
        assert_eq!(
            error(&["--rp_serve_api=false"]),
            "--rp_serve_api: does not take a value"
        );
        let level = error(&["--rp_log_level", "LOUD"]);
        assert!(level.contains("expected ERROR, WARN") && level.ends_with("got `LOUD`"));
    }
}
