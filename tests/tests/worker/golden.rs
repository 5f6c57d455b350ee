//! Compares our worker's requests, field by field, with those recorded from the official worker (`golden/`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use podwork::{Context, Result, Worker, handler};
use podwork_tests::{Answer, Recorded, Running, Scripted, job, start};
use serde::Deserialize;
use serde_json::{Value, json};

/// A request as a map of fields.
type Fields = BTreeMap<String, String>;

const HOPS: [&str; 3] = ["host", "connection", "content-length"];

#[derive(Deserialize)]
struct Golden {
    request: GoldenRequest,
}

#[derive(Deserialize)]
struct GoldenRequest {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: BTreeMap<String, String>,
    body: Value,
}

#[derive(Deserialize)]
struct Difference {
    /// The names of golden files, separated by spaces, or `*` for all of them.
    calls: String,
    field: String,
    /// The value in the request that is compared with the golden file; `None` if it lacks the field.
    #[serde(rename = "ours", alias = "newer")]
    value: Option<String>,
    #[expect(dead_code, reason = "documents the difference for readers")]
    why: String,
}

fn golden_file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// Returns a request as a map of fields. The order of the query parameters is a field of its own.
fn fields(
    method: &str,
    path: &str,
    query: &[(String, String)],
    headers: &BTreeMap<String, String>,
    body: &Value,
) -> Fields {
    let names: Vec<&str> = query.iter().map(|(name, _)| name.as_str()).collect();
    let mut fields = BTreeMap::from([
        ("method".to_owned(), method.to_owned()),
        ("path".to_owned(), path.to_owned()),
        ("query".to_owned(), names.join("&")),
    ]);
    for (name, value) in query {
        fields.insert(format!("query.{name}"), value.clone());
    }
    for (name, value) in headers
        .iter()
        .filter(|(name, _)| !HOPS.contains(&name.as_str()))
    {
        fields.insert(format!("headers.{name}"), value.clone());
    }
    if let Some(members) = body.as_object() {
        for (name, value) in members.iter().filter(|(name, _)| *name != "error") {
            fields.insert(format!("body.{name}"), value.to_string());
        }
        if let Some(report) = members.get("error") {
            let report: BTreeMap<String, String> =
                serde_json::from_str(report.as_str().unwrap()).unwrap();
            fields.extend(
                report
                    .into_iter()
                    .map(|(name, value)| (format!("error.{name}"), value)),
            );
        }
    }
    fields
}

fn ours(request: &Recorded) -> Fields {
    let body = if request.body.is_empty() {
        Value::Null
    } else {
        request.json()
    };
    let mut fields = fields(
        &request.method,
        &request.path,
        &request.query,
        &request.headers,
        &body,
    );
    let agent = fields.get_mut("headers.user-agent").unwrap();
    let system = format!("({}; {})", std::env::consts::OS, std::env::consts::ARCH);
    *agent = agent.replace(&system, "(<os>)");
    if let Some(key) = fields.get_mut("headers.idempotency-key") {
        "<key>".clone_into(key);
    }
    fields
}

/// Does what the handlers of the official recording do. The job's input selects which one.
#[handler]
async fn answers(input: Value, cx: Context) -> Result<Value> {
    if input.get("updates").is_some() {
        cx.progress(json!({ "step": 1 }));
        // Keeps the job running, so that its progress is posted.
        cx.cancelled().await;
    } else if let Some(message) = input.get("message") {
        return Err(message.as_str().unwrap_or_default().into());
    } else if input.get("upto").is_none() {
        cx.cancelled().await;
    }
    Ok(json!({ "echo": input }))
}

#[handler(iterator)]
fn counts(input: BTreeMap<String, u32>) -> std::ops::Range<u32> {
    0..input["upto"]
}

/// Starts a platform that answers takes with these jobs in order, and holds all further takes open.
async fn platform(takes: Vec<Value>) -> Scripted {
    let takes = Mutex::new(takes.into_iter());
    Scripted::start(move |request, _| match request.call() {
        "job-take" | "job-take-batch" => takes
            .lock()
            .unwrap()
            .next()
            .map_or(Answer::Hold, |job| Answer::Json(200, job)),
        "job-stop" => Answer::Hold,
        _ => Answer::Json(200, json!({})),
    })
    .await
}

/// A function that starts a worker on a platform.
type Starter = Box<dyn FnOnce(&Scripted) -> Running>;

/// Runs the scenario of one golden file, and returns our worker's request.
async fn scenario(name: &str) -> Recorded {
    let one = job("golden-job", json!({"upto": 1}));
    let (first, second) = (
        job("golden-job-1", json!({})),
        job("golden-job-2", json!({})),
    );
    let plain = Worker::new::<answers>;
    let two = || plain().concurrency(2);
    let counting = Worker::new::<counts>;
    let begin = |takes| async { platform(takes).await };
    let (platform, worker, call): (Scripted, Starter, &str) = match name {
        "take" => (begin(vec![]).await, with(plain()), "job-take"),
        "take_busy" => (begin(vec![json!([first])]).await, with(two()), "job-take"),
        "take_batch" => (begin(vec![]).await, with(two()), "job-take-batch"),
        "stop" => (begin(vec![]).await, with(plain()), "job-stop"),
        "ping_idle" => (begin(vec![]).await, with(plain()), "ping"),
        "ping_busy" => (begin(vec![first]).await, with(plain()), "ping"),
        "ping_two" => (
            begin(vec![json!([first, second])]).await,
            with(two()),
            "ping",
        ),
        "result" => (begin(vec![one]).await, with(plain()), "job-done"),
        "result_refresh" => (
            begin(vec![one]).await,
            with(plain().refresh_worker(true)),
            "job-done",
        ),
        "error" => {
            let fails = job("golden-job", json!({"message": "no"}));
            (begin(vec![fails]).await, with(plain()), "job-done")
        }
        "progress" => {
            let updates = job("golden-job", json!({"updates": [{"step": 1}]}));
            (begin(vec![updates]).await, with(plain()), "job-done")
        }
        "chunk" => (begin(vec![one]).await, with(counting()), "job-stream"),
        "stream_end" => (begin(vec![one]).await, with(counting()), "job-done"),
        "stream_end_aggregated" => (
            begin(vec![one]).await,
            with(counting().aggregate_stream(true)),
            "job-done",
        ),
        other => panic!("no scenario for {other}"),
    };
    let worker = worker(&platform);
    let wanted = |request: &Recorded| match name {
        "ping_busy" => request.param("job_id").is_some(),
        "ping_two" => request.param("job_id").is_some_and(|ids| ids.contains(',')),
        _ => true,
    };
    let seen = platform
        .until(call, |requests| requests.iter().any(wanted))
        .await;
    drop(worker);
    seen.into_iter().find(wanted).unwrap()
}

fn with<H: podwork::Handler, S: podwork::state::StateSource<H::State>>(
    worker: Worker<H, S>,
) -> Starter {
    Box::new(|platform| start(worker, platform.env("golden-worker")))
}

/// The listed differences between two sets of requests, and those that occur.
struct Comparison {
    listed: Vec<Difference>,
    occurred: BTreeSet<(usize, String)>,
    unlisted: Vec<String>,
}

impl Comparison {
    fn of(file: &str) -> Self {
        Self {
            listed: serde_json::from_str(&golden_file(file)).unwrap(),
            occurred: BTreeSet::new(),
            unlisted: Vec::new(),
        }
    }

    fn compare(&mut self, name: &str, golden: &Fields, other: &Fields) {
        let all: BTreeSet<&String> = golden.keys().chain(other.keys()).collect();
        for field in all {
            let (expected, value) = (golden.get(field), other.get(field));
            if expected == value {
                continue;
            }
            let listed = self.listed.iter().position(|listed| {
                let of_call =
                    listed.calls == "*" || listed.calls.split(' ').any(|call| call == name);
                of_call && listed.field == *field && listed.value.as_ref() == value
            });
            match listed {
                Some(listed) => {
                    self.occurred.insert((listed, name.to_owned()));
                }
                None => self.unlisted.push(format!(
                    "{name}: {field}: golden {expected:?}, now {value:?}"
                )),
            }
        }
    }

    /// Asserts that all differences are listed, and that all listed differences occur.
    fn check(&self) {
        assert!(self.unlisted.is_empty(), "{:#?}", self.unlisted);
        for (at, listed) in self.listed.iter().enumerate() {
            let occurs = |call: &str| match call {
                "*" => self.occurred.iter().any(|(index, _)| *index == at),
                call => self.occurred.contains(&(at, call.to_owned())),
            };
            for call in listed.calls.split(' ') {
                assert!(occurs(call), "{call}: {} does not differ", listed.field);
            }
        }
    }
}

/// Returns the names of the golden files in a folder.
fn names(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(folder);
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    files
        .filter_map(|name| name.strip_suffix(".json").map(ToOwned::to_owned))
        .filter(|name| name != "differences")
        .collect()
}

fn golden(file: &str) -> Fields {
    let Golden { request } = serde_json::from_str(&golden_file(&format!("{file}.json"))).unwrap();
    fields(
        &request.method,
        &request.path,
        &request.query,
        &request.headers,
        &request.body,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_match_the_official_worker_except_for_listed_differences() {
    let names = names("");
    assert_eq!(names.len(), 14);
    let mut comparison = Comparison::of("differences.json");
    for name in &names {
        comparison.compare(name, &golden(name), &ours(&scenario(name).await));
    }
    comparison.check();
}

#[test]
fn requests_of_the_next_official_worker_differ_only_as_listed() {
    let next = "runpod-2.0.0rc2";
    let names = names(next);
    assert_eq!(names.len(), 16);
    let mut comparison = Comparison::of(&format!("{next}/differences.json"));
    for name in &names {
        let before = match name.as_str() {
            // New requests: failures with more to say.
            "error_with_logs" | "prestart_failed" => "error",
            same => same,
        };
        comparison.compare(name, &golden(before), &golden(&format!("{next}/{name}")));
    }
    comparison.check();
}
