//! The request, from the command line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context as _, Result, anyhow, bail};
use podwork_protocol::client::RunRequest;
use podwork_protocol::{RawValue, WrittenRequest, without_bom};

use crate::output::note;

const FILE: &str = "test_input.json";

/// The largest request that is read, in bytes. It is far above the limit of any platform.
const MAX_REQUEST: u64 = 256 << 20;

/// Reads the input, or the whole request.
pub(super) fn request(data: Option<&str>) -> Result<RunRequest> {
    let (source, text) = match data {
        None => (
            FILE,
            read_file(FILE).context("pass the input with --data JSON or --data @file")?,
        ),
        Some("-") => {
            let source = "standard input";
            (source, read(source, io::stdin().lock())?)
        }
        Some(data) => match data.strip_prefix('@') {
            Some(path) => (path, read_file(path)?),
            None => ("--data", data.to_owned()),
        },
    };
    parse(source, without_bom(&text))
}

fn read_file(path: &str) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot read {path}"))?;
    read(path, file)
}

fn read(source: &str, from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(MAX_REQUEST + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {source}"))?;
    if bytes.len() as u64 > MAX_REQUEST {
        bail!("{source} is larger than {} MB", MAX_REQUEST >> 20);
    }
    String::from_utf8(bytes).map_err(|_| anyhow!("{source} is not UTF-8 text: save it as UTF-8"))
}

fn parse(source: &str, text: &str) -> Result<RunRequest> {
    let input: &RawValue = serde_json::from_str(text).with_context(|| {
        format!(
            "{source} is not valid JSON; quote it for the shell: --data '{{\"name\": \"Ada\"}}'"
        )
    })?;
    // Not an object: it has no members.
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    if members.contains_key("input") {
        let written = WrittenRequest::parse(text).with_context(|| {
            format!(
                "{source} has the key `input`, so it is the whole request; to send all of it as the input, write \
                 {{\"input\": …}} around it"
            )
        })?;
        if written.id.is_some() {
            note(format_args!(
                "note: ignoring the `id` in {source}: the endpoint chooses the job's id"
            ));
        }
        return Ok(written.request);
    }
    let options = ["policy", "webhook", "s3Config"];
    if let Some(option) = options.iter().find(|name| members.contains_key(**name)) {
        note(format_args!(
            "note: {source} has no key `input`: sending all of it as the input, including `{option}`"
        ));
    }
    Ok(RunRequest::new(input.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(data: &str) -> String {
        request(Some(data)).unwrap().input.get().to_owned()
    }

    fn complaint(data: &str) -> String {
        format!("{:#}", request(Some(data)).unwrap_err())
    }

    #[test]
    fn data_is_the_input_or_the_whole_request() {
        assert_eq!(input(r#"{"name": "Ada"}"#), r#"{"name": "Ada"}"#);
        assert_eq!(input(" 7\n"), "7");
        assert_eq!(input(r#"["input"]"#), r#"["input"]"#);
        assert_eq!(
            input(r#"{"seed": 5400121572116418999123}"#),
            r#"{"seed": 5400121572116418999123}"#
        );
        assert_eq!(input(r#"{"input": {"name": "Ada"}}"#), r#"{"name": "Ada"}"#);
        assert_eq!(input(r#"{"id": "mine", "input": null}"#), "null");
        let whole = request(Some(r#"{"input": 1, "policy": {"ttl": 20000}}"#)).unwrap();
        assert_eq!(whole.policy.unwrap().ttl, Some(20_000));
    }

    #[test]
    fn nothing_beside_the_input_is_ignored() {
        for (data, member) in [
            (r#"{"model": "bge", "input": "hello"}"#, "`model`"),
            (r#"{"input": 1, "polcy": {}}"#, "`polcy`"),
            (r#"{"input": 1, "policy": {"TTL": 20000}}"#, "`TTL`"),
        ] {
            let said = complaint(data);
            assert!(
                said.contains(member) && said.contains("write {\"input\": …} around it"),
                "{said}"
            );
        }
    }

    #[test]
    fn an_error_says_what_to_write() {
        assert!(complaint("{name: Ada}").starts_with("--data is not valid JSON; quote it"));
        assert!(complaint("").starts_with("--data is not valid JSON"));
        assert!(complaint("@no/such").starts_with("cannot read no/such"));
    }

    #[test]
    fn a_file_may_begin_with_a_byte_order_mark_but_must_be_utf_8() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("input.json");
        let data = format!("@{}", file.display());
        std::fs::write(&file, "\u{feff}{\"input\": 7}\r\n").unwrap();
        assert_eq!(input(&data), "7");
        let utf_16: Vec<u8> = "\u{feff}{}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        std::fs::write(&file, utf_16).unwrap();
        assert!(complaint(&data).ends_with("is not UTF-8 text: save it as UTF-8"));
    }
}
