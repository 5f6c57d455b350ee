//! The request, from the command line.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use podwork_protocol::RawValue;
use podwork_protocol::client::RunRequest;
use serde_json::Value;

/// Reads the input, or the whole request.
pub(super) fn request(data: Option<&str>) -> Result<RunRequest> {
    let (source, text) = match data {
        None => (
            "test_input.json",
            std::fs::read_to_string("test_input.json").context(
                "cannot read test_input.json; pass the input with --data JSON or --data @file",
            )?,
        ),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
            ("standard input", text)
        }
        Some(data) => match data.strip_prefix('@') {
            Some(path) => (
                path,
                std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?,
            ),
            None => ("--data", data.to_owned()),
        },
    };
    let value: Value = serde_json::from_str(&text).with_context(|| {
        format!(
            "{source} is not valid JSON; quote it for the shell: --data '{{\"name\": \"Ada\"}}'"
        )
    })?;
    if value.get("input").is_some() {
        return serde_json::from_str(&text).with_context(|| format!("{source} is not a request"));
    }
    let input = RawValue::from_string(text.trim().to_owned()).context("the input is not JSON")?;
    Ok(RunRequest::new(input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_the_input_or_the_whole_request() {
        let input = |data: &str| request(Some(data)).unwrap().input.get().to_owned();
        assert_eq!(input(r#"{"name": "Ada"}"#), r#"{"name": "Ada"}"#);
        assert_eq!(input("7"), "7");
        assert_eq!(input(r#"{"input": {"name": "Ada"}}"#), r#"{"name": "Ada"}"#);
        let whole = request(Some(r#"{"input": 1, "policy": {"ttl": 20000}}"#)).unwrap();
        assert_eq!(whole.policy.unwrap().ttl, Some(20_000));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_what_to_write() {
        let complaint = |data| format!("{:#}", request(Some(data)).unwrap_err());
        assert!(complaint("{name: Ada}").starts_with("--data is not valid JSON; quote it"));
        assert!(complaint("@no/such").starts_with("cannot read no/such"));
    }
}
