//! `--test_input` and `test_input.json`: runs one job and prints its events in the terminal.

use std::path::Path;
use std::pin::pin;

use futures::{Stream, StreamExt as _};
use podwork_platform::JobEvent;
use podwork_protocol::client::StatusResponse;
use podwork_protocol::{JobStatus, RawValue, WrittenRequest, without_bom};
use serde_json::{Map, Number, Value, json};

use crate::error::Error;
use crate::output::print;
use crate::worker::Launch;

use super::loopback::work_for;
use super::platform;

const FILE: &str = "test_input.json";
const FORM: &str = r#"write {"input": …} (replace … with the input of the handler)"#;

/// The job to run, from the command line.
#[derive(Debug)]
pub(crate) struct TestInput {
    /// The request, as JSON. `None`: the one in `test_input.json`.
    pub(crate) request: Option<String>,
    /// The expected result, as JSON. `None`: the result is not compared.
    pub(crate) expected: Option<String>,
}

pub(super) async fn run(test: TestInput, launch: Launch) -> Result<(), Error> {
    let request = read_request(test.request)?;
    let expected = test.expected.map(|text| read_expected(&text)).transpose()?;

    let platform = platform(&launch.handler)
        .bind("127.0.0.1", 0)
        .start()
        .await?;
    let job_id = match request.id {
        Some(id) => platform.submit_with_id(&id, request.request)?,
        None => platform.submit(request.request)?,
    };
    let watching = watch(platform.follow(&job_id), &job_id);
    let drain = launch.shutdown.drain.clone();
    let mut working = pin!(work_for(&platform, launch));
    let (worked, last) = tokio::select! {
        last = watching => {
            let last = last?;
            // There are no more jobs, so the worker need not wait for its open poll.
            drain.cancel();
            platform.close();
            (working.await, last)
        }
        // The worker failed to start, or was asked to shut down.
        worked = &mut working => (worked, None),
    };
    worked?;
    let Some(last) = last else {
        return Err(Error::TestJob {
            status: "its worker has ended",
        });
    };
    if last.status != JobStatus::Completed {
        return Err(Error::TestJob {
            status: last.status.as_str(),
        });
    }
    match expected {
        Some(expected) => compare(&expected, &last),
        None => Ok(()),
    }
}

fn read_request(flag: Option<String>) -> Result<WrittenRequest, Error> {
    let (source_name, text) = match flag {
        Some(text) => ("--test_input", text),
        None => (FILE, read_file()?),
    };
    WrittenRequest::parse(&text).map_err(|error| Error::TestInput {
        source_name: source_name.to_owned(),
        problem: format!("{error}; {FORM}"),
    })
}

/// Returns the content of `test_input.json`, if it exists. The form of the console starts with it.
pub(super) fn example() -> Option<String> {
    read_file().ok()
}

/// Reads the file in the working directory or, if `cargo run` was called from elsewhere, next to the package's
/// manifest.
fn read_file() -> Result<String, Error> {
    let read = std::fs::read_to_string(FILE).or_else(|error| {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").ok_or(error)?;
        std::fs::read_to_string(Path::new(&package).join(FILE))
    });
    read.map_err(|error| Error::TestInput {
        source_name: FILE.to_owned(),
        problem: if error.kind() == std::io::ErrorKind::NotFound {
            format!(
                "not found in this folder; {FORM}, or pass --test_input '{{\"input\": …}}', or serve the API with \
                 --rp_serve_api"
            )
        } else {
            format!("cannot read the file: {error}; it must be UTF-8 text")
        },
    })
}

fn read_expected(text: &str) -> Result<Value, Error> {
    serde_json::from_str(without_bom(text)).map_err(|error| Error::Flag {
        flag: "--test_output",
        problem: format!(
            "invalid JSON: {error}; write the whole result, such as {{\"output\": …}}"
        ),
    })
}

/// Prints the job's events and returns its last status, or `None` if the platform ended before the job did.
async fn watch(
    events: impl Stream<Item = JobEvent>,
    job_id: &str,
) -> Result<Option<StatusResponse>, Error> {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            JobEvent::Queued => show("IN_QUEUE", &format!("job {job_id}"))?,
            JobEvent::Started { worker_id } => {
                show("IN_PROGRESS", &format!("on worker {worker_id}"))?;
            }
            JobEvent::Progress(progress) => show("  progress", progress.get())?,
            JobEvent::Chunk(chunk) => show("  chunk", chunk.get())?,
            JobEvent::Finished(last) => {
                show_end(&last)?;
                return Ok(Some(last));
            }
            // Ignore kinds of events that a later version may add.
            _ => {}
        }
    }
    Ok(None)
}

fn show_end(last: &StatusResponse) -> Result<(), Error> {
    let millis =
        |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time} ms"));
    if let Some(output) = &last.output {
        show("  output", output.get())?;
    }
    if let Some(error) = &last.error {
        show("  error", error.as_str().unwrap_or(&error.to_string()))?;
    }
    let times = format!(
        "delayTime {}, executionTime {}",
        millis(last.delay_time),
        millis(last.execution_time)
    );
    show(last.status.as_str(), &times)
}

fn show(what: &str, text: &str) -> Result<(), Error> {
    print(format_args!("{what:<12}| {text}\n"))
}

fn compare(expected: &Value, last: &StatusResponse) -> Result<(), Error> {
    let mut got = Map::new();
    if let Some(output) = &last.output {
        got.insert("output".to_owned(), parse(output));
    }
    let got = Value::Object(got);
    if same_value(expected, &got) {
        return show("  matches", "--test_output");
    }
    Err(Error::TestOutput {
        expected: expected.to_string(),
        got: got.to_string(),
    })
}

fn parse(raw: &RawValue) -> Value {
    // Raw JSON is always valid.
    serde_json::from_str(raw.get()).unwrap_or_else(|_| json!(raw.get()))
}

/// Compares two JSON values. Numbers are equal if their values are, as `1` and `1.0`.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(name, a)| b.get(name).is_some_and(|b| same_value(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        _ => a == b,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    // Exact for all 64-bit integers, which a comparison of floats is not.
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.as_f64() == b.as_f64(),
        _ => false,
    }
}

/// Returns the value of a whole number that 128 bits can hold.
fn whole(number: &Number) -> Option<i128> {
    // `to_string` formats a whole float without a point and without an exponent.
    number
        .as_i128()
        .or_else(|| number.as_f64()?.to_string().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_by_value() {
        let same = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| serde_json::from_str(text).unwrap());
            assert_eq!(same_value(&a, &b), same_value(&b, &a));
            same_value(&a, &b)
        };
        for (a, b) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("0", "-0.0"),
            ("-3.0", "-3"),
            ("0.1", "1e-1"),
            ("1e300", "1.0e300"),
            ("18446744073709551615", "18446744073709551615"),
            (r#"{"a": [1, {"b": 2.0}]}"#, r#"{"a": [1.0, {"b": 2}]}"#),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("1", "1.5"),
            ("1", "true"),
            ("1", "\"1\""),
            ("9007199254740993", "9007199254740992.0"),
            ("18446744073709551615", "18446744073709551614"),
            ("[1]", "[1, 1]"),
            (r#"{"a": 1}"#, r#"{"b": 1}"#),
            (r#"{"a": null}"#, "{}"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }
}
