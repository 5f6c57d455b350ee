//! The flags of a worker binary. They are the official worker's, and `--rp_schema`; all else on the command line is the
//! user's own.

use std::ffi::OsString;

use crate::error::Error;
use crate::telemetry::log;
use tracing::level_filters::LevelFilter;

/// What the command line asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Args {
    /// `--test_input JSON`
    pub(crate) test_input: Option<String>,
    /// `--test_output JSON`
    pub(crate) test_output: Option<String>,
    /// `--rp_serve_api`
    pub(crate) serve_api: bool,
    /// `--rp_api_host`
    pub(crate) api_host: Option<String>,
    /// `--rp_api_port`
    pub(crate) api_port: Option<u16>,
    /// `--rp_api_concurrency`
    pub(crate) api_concurrency: Option<usize>,
    /// `--rp_log_level`
    pub(crate) log_level: Option<LevelFilter>,
    /// `--rp_debugger`
    pub(crate) debugger: bool,
    /// `--rp_schema`
    pub(crate) schema: bool,
}

impl Args {
    /// Reads the flags, and passes over what it does not know.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let mut parsed = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let Some(arg) = arg.to_str() else { continue };
            let (flag, attached) = match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (arg, None),
            };
            let mut value = |flag: &'static str| {
                let next = || args.next().and_then(|value| value.into_string().ok());
                attached.clone().or_else(next).ok_or(Error::Flag {
                    flag,
                    problem: "a value is missing behind it".to_owned(),
                })
            };
            match flag {
                "--test_input" => parsed.test_input = Some(value("--test_input")?),
                "--test_output" => parsed.test_output = Some(value("--test_output")?),
                "--rp_serve_api" => parsed.serve_api = true,
                "--rp_schema" => parsed.schema = true,
                "--rp_debugger" => parsed.debugger = true,
                "--rp_api_host" => parsed.api_host = Some(value("--rp_api_host")?),
                "--rp_api_port" => {
                    let flag = "--rp_api_port";
                    let is_port = |text: &str| text.parse().ok();
                    parsed.api_port = Some(checked(
                        flag,
                        &value(flag)?,
                        "a port number, 0 to 65535",
                        is_port,
                    )?);
                }
                "--rp_api_concurrency" => {
                    let flag = "--rp_api_concurrency";
                    let is_count = |text: &str| text.parse().ok().filter(|count| *count > 0);
                    parsed.api_concurrency = Some(checked(
                        flag,
                        &value(flag)?,
                        "a whole number above 0",
                        is_count,
                    )?);
                }
                "--rp_log_level" => {
                    let flag = "--rp_log_level";
                    let levels = "ERROR, WARN, INFO, DEBUG, TRACE or NOTSET";
                    parsed.log_level =
                        Some(checked(flag, &value(flag)?, levels, log::parse_level)?);
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn checked<T>(
    flag: &'static str,
    value: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, Error> {
    parse(value).ok_or_else(|| Error::Flag {
        flag,
        problem: format!("`{value}` is not {expected}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, Error> {
        Args::parse(args.iter().map(Into::into))
    }

    #[test]
    fn official_flags_among_the_users_own() {
        let args = parse(&[
            "--model",
            "big",
            "--rp_serve_api",
            "serve",
            "--rp_api_port=9000",
            "-v",
            "--rp_api_host",
            "0.0.0.0",
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
                log_level: Some(LevelFilter::DEBUG),
                test_input: Some(r#"{"a=b":1}"#.to_owned()),
                ..Args::default()
            }
        );
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let complaint = |args: &[&str]| parse(args).unwrap_err().to_string();
        assert_eq!(
            complaint(&["--test_input"]),
            "--test_input: a value is missing behind it"
        );
        assert_eq!(
            complaint(&["--rp_api_port", "70000"]),
            "--rp_api_port: `70000` is not a port number, 0 to 65535"
        );
        assert_eq!(
            complaint(&["--rp_api_concurrency=0"]),
            "--rp_api_concurrency: `0` is not a whole number above 0"
        );
        assert!(complaint(&["--rp_log_level", "LOUD"]).contains("`LOUD` is not ERROR, WARN"));
    }
}
