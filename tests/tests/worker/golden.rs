//! Compares our worker's requests, field by field, with those recorded from the official worker (`golden/`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use podwork::{Context, Result, Worker, handler};
use podwork_tests::{Answer, Recorded, Running, Scripted, job, start};
use serde::Deserialize;
use serde_json::{Value, json};

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
    ours: Option<String>,
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
) -> BTreeMap<String, String> {
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

fn ours(request: &Recorded) -> BTreeMap<String, String> {
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

#[tokio::test(flavor = "multi_thread")]
async fn requests_match_the_official_worker_except_for_listed_differences() {
    let differences: Vec<Difference> =
        serde_json::from_str(&golden_file("differences.json")).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> = names
        .filter_map(|name| name.strip_suffix(".json").map(ToOwned::to_owned))
        .filter(|name| name != "differences")
        .collect();
    assert_eq!(names.len(), 14);

    let mut occurred = BTreeSet::new();
    let mut unlisted = Vec::new();
    for name in &names {
        let golden: Golden = serde_json::from_str(&golden_file(&format!("{name}.json"))).unwrap();
        let theirs = golden.request;
        let theirs = fields(
            &theirs.method,
            &theirs.path,
            &theirs.query,
            &theirs.headers,
            &theirs.body,
        );
        let ours = ours(&scenario(name).await);
        let all: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for field in all
            .into_iter()
            .filter(|field| theirs.get(*field) != ours.get(*field))
        {
            let listed = differences.iter().position(|difference| {
                let of_call =
                    difference.calls == "*" || difference.calls.split(' ').any(|call| call == name);
                of_call && difference.field == *field && difference.ours.as_ref() == ours.get(field)
            });
            match listed {
                Some(listed) => {
                    occurred.insert((listed, name));
                }
                None => unlisted.push(format!(
                    "{name}: {field}: theirs {:?}, ours {:?}",
                    theirs.get(field),
                    ours.get(field)
                )),
            }
        }
    }
    assert!(unlisted.is_empty(), "{unlisted:#?}");
    for (listed, difference) in differences.iter().enumerate() {
        let calls = difference.calls.split(' ').filter(|call| *call != "*");
        for call in calls {
            let name = names
                .get(call)
                .unwrap_or_else(|| panic!("no golden file {call}"));
            assert!(
                occurred.contains(&(listed, name)),
                "{call}: {} no longer differs",
                difference.field
            );
        }
        assert!(
            occurred.iter().any(|(at, _)| *at == listed),
            "{} does not differ",
            difference.field
        );
    }
}
