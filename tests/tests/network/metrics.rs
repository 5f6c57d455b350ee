//! The worker's Prometheus metrics, scraped over HTTP.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use podwork::metrics::counter::Counter;
use podwork::{Batch, Context, Error, Result, Stream, Worker, handler, try_stream};
use podwork_platform::{JobEvent, Platform};
use podwork_tests::{Answer, Recorded, Scripted, client, ended, job, start, start_on, submit};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Returns a listener on a free port, and its address.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// The values of one scrape, by series name and labels.
#[derive(Debug)]
struct Figures(BTreeMap<String, f64>);

impl Figures {
    async fn scrape(addr: SocketAddr) -> Self {
        let answer = client().get(format!("http://{addr}/metrics")).send().await;
        let answer = answer.unwrap().error_for_status().unwrap();
        let format = answer.headers()["content-type"].to_str().unwrap();
        assert!(
            format.starts_with("application/openmetrics-text; version=1.0.0"),
            "{format}"
        );
        let text = answer.text().await.unwrap();
        assert!(text.ends_with("\n# EOF\n"), "{text}");
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let series = series.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self(series.collect())
    }

    /// Scrapes until these series have these values: a job is counted shortly after the platform receives its result.
    async fn until(addr: SocketAddr, wanted: &[(&str, f64)]) -> Self {
        let mut last = None;
        let scraping = async {
            loop {
                let figures = Self::scrape(addr).await;
                if wanted.iter().all(|(name, value)| figures.is(name, *value)) {
                    return figures;
                }
                last = Some(figures);
            }
        };
        let scraped = tokio::time::timeout(Duration::from_mins(1), scraping).await;
        scraped.unwrap_or_else(|_| panic!("timed out waiting for {wanted:?}: {last:#?}"))
    }

    #[expect(clippy::float_cmp, reason = "the values are counts")]
    fn is(&self, name: &str, value: f64) -> bool {
        self.0.get(name).is_some_and(|found| *found == value)
    }

    #[track_caller]
    fn check(&self, wanted: &[(&str, f64)]) {
        for (name, value) in wanted {
            assert!(self.is(name, *value), "{name} is not {value}: {self:#?}");
        }
    }
}

#[handler]
async fn task(task: String, done: &Counter, cx: Context) -> Result<()> {
    match task.as_str() {
        "fail" => return Err("requested failure".into()),
        "panic" => panic!("requested panic"),
        "wait" => {
            cx.progress("waiting");
            std::future::pending::<()>().await;
        }
        _ => {
            done.inc();
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_the_format_of_prometheus_gets_it() {
    #[handler]
    async fn echo(input: Value) -> Value {
        input
    }

    let platform = Platform::builder().start().await.unwrap();
    let (listener, addr) = listener();
    let custom = Counter::<u64>::default();
    custom.inc();
    let worker = Worker::new::<echo>()
        .metrics_on(listener)
        .register_metrics(|registry| registry.register("words", "Words counted", custom));
    let worker = start(worker, platform.worker_env("w"));
    let id = submit(&platform, &json!(1));
    ended(&platform, &id).await;
    Figures::until(addr, &[("podwork_jobs_total{outcome=\"completed\"}", 1.0)]).await;

    let request = client().get(format!("http://{addr}/metrics"));
    let answer = request.header("Accept", "text/plain;version=0.0.4").send();
    let answer = answer.await.unwrap();
    assert_eq!(
        answer.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = answer.text().await.unwrap();
    for line in [
        "# TYPE podwork_jobs_total counter",
        "podwork_jobs_total{outcome=\"completed\"} 1",
        "# TYPE podwork_build_info gauge",
        "words_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    // These lines exist only in OpenMetrics.
    for part in ["# EOF", "# UNIT"] {
        assert!(!text.contains(part), "{text}");
    }
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_is_counted_by_its_outcome() {
    let platform = Platform::builder().start().await.unwrap();
    let (listener, addr) = listener();
    let done = Counter::default();
    let worker = Worker::new::<task>()
        .state(done.clone())
        .concurrency(2)
        .metrics_on(listener)
        .register_metrics(|registry| registry.register("done", "Tasks done", done));
    let worker = start(worker, platform.worker_env("w"));
    for input in ["ok", "fail", "panic", "ok", "ok"] {
        ended(&platform, &submit(&platform, &json!(input))).await;
    }
    let waiting = submit(&platform, &json!("wait"));
    let mut events = Box::pin(platform.follow(&waiting));
    while !matches!(events.next().await.unwrap(), JobEvent::Progress(_)) {}
    Figures::until(
        addr,
        &[
            ("podwork_jobs_running", 1.0),
            (
                "podwork_posts_total{kind=\"progress\",result=\"accepted\"}",
                1.0,
            ),
        ],
    )
    .await;
    platform.cancel(&waiting).unwrap();
    let figures = Figures::until(
        addr,
        &[
            ("podwork_jobs_total{outcome=\"stopped\"}", 1.0),
            ("podwork_jobs_running", 0.0),
            ("podwork_jobs_undelivered", 0.0),
        ],
    )
    .await;
    let info = format!(
        "podwork_build_info{{version=\"{}\",handler=\"task\"}}",
        podwork::VERSION
    );
    figures.check(&[
        (&info, 1.0),
        ("podwork_concurrency_limit", 2.0),
        ("podwork_jobs_total{outcome=\"completed\"}", 3.0),
        ("podwork_jobs_total{outcome=\"failed\"}", 1.0),
        ("podwork_jobs_total{outcome=\"panicked\"}", 1.0),
        ("podwork_jobs_total{outcome=\"timed_out\"}", 0.0),
        ("podwork_jobs_total{outcome=\"interrupted\"}", 0.0),
        ("podwork_jobs_total{outcome=\"refused\"}", 0.0),
        ("podwork_undelivered_bytes", 0.0),
        ("podwork_handler_duration_seconds_count", 6.0),
        ("podwork_delivery_duration_seconds_count", 5.0),
        (
            "podwork_posts_total{kind=\"result\",result=\"accepted\"}",
            5.0,
        ),
        ("podwork_post_retries_total{kind=\"result\"}", 0.0),
        ("done_total", 3.0),
    ]);
    platform.close();
    worker.stop().await.unwrap();
}

#[handler]
async fn sleeps(ends: bool) {
    if !ends {
        std::future::pending::<()>().await;
    }
}

fn one(id: &str, input: Value) -> Answer {
    Answer::Json(200, job(id, input))
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_takes_retries_and_refused_results() {
    let platform = Scripted::start(|request: &Recorded, before| {
        match (request.call(), before) {
            ("job-take", 0) => one("retried", json!(true)),
            ("job-take", 1) => one("refused", json!(true)),
            ("job-take", 2) => one("slow", json!(false)),
            ("job-take", 3) => Answer::Status(500),
            ("job-take", 4) => Answer::Status(204),
            ("job-take" | "job-stop", _) => Answer::Hold,
            // Accepts the first job's result on the third attempt.
            ("job-done", 0 | 1) => Answer::Status(503),
            // Refuses the second job's result, but accepts the error that reports the refusal.
            ("job-done", 3) => Answer::Status(400),
            _ => Answer::Status(200),
        }
    })
    .await;
    let (listener, addr) = listener();
    let worker = Worker::new::<sleeps>()
        .job_timeout(Duration::from_millis(100))
        .metrics_on(listener);
    let worker = start(worker, platform.env("w"));
    let figures = Figures::until(
        addr,
        &[
            ("podwork_takes_total{answer=\"empty\"}", 1.0),
            ("podwork_jobs_undelivered", 0.0),
        ],
    )
    .await;
    figures.check(&[
        ("podwork_takes_total{answer=\"jobs\"}", 3.0),
        ("podwork_takes_total{answer=\"error\"}", 1.0),
        ("podwork_take_duration_seconds_count{answer=\"jobs\"}", 3.0),
        ("podwork_jobs_total{outcome=\"completed\"}", 1.0),
        ("podwork_jobs_total{outcome=\"refused\"}", 1.0),
        ("podwork_jobs_total{outcome=\"timed_out\"}", 1.0),
        ("podwork_post_retries_total{kind=\"result\"}", 2.0),
        (
            "podwork_posts_total{kind=\"result\",result=\"accepted\"}",
            3.0,
        ),
        (
            "podwork_posts_total{kind=\"result\",result=\"refused\"}",
            1.0,
        ),
        // The third job timed out after 100 ms.
        ("podwork_handler_duration_seconds_bucket{le=\"0.064\"}", 2.0),
        ("podwork_handler_duration_seconds_bucket{le=\"+Inf\"}", 3.0),
        ("podwork_delivery_duration_seconds_count", 2.0),
        // A delivery may be retried for 15 minutes.
        (
            "podwork_delivery_duration_seconds_bucket{le=\"1048.576\"}",
            2.0,
        ),
    ]);
    worker.stop().await.unwrap();
}

#[handler]
fn counted(to: u32) -> impl Stream<Item = Result<u32>> {
    try_stream! {
        for n in 0..to {
            yield n;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_chunk_posts_and_undelivered_jobs() {
    let platform = Scripted::start(|request: &Recorded, before| {
        match (request.call(), before) {
            ("job-take", 0) => one("stream", json!(3)),
            // Refuses the last chunk, and with it the job, and never answers the post that reports this.
            ("job-stream", 2) => Answer::Status(413),
            ("job-take" | "job-stop" | "job-done", _) => Answer::Hold,
            _ => Answer::Status(200),
        }
    })
    .await;
    let (listener, addr) = listener();
    let worker = Worker::new::<counted>()
        .shutdown_grace(Duration::ZERO)
        .metrics_on(listener);
    let worker = start(worker, platform.env("w"));
    platform.until_count("job-done", 1).await;
    let waiting = [
        ("podwork_jobs_undelivered", 1.0),
        ("podwork_jobs_running", 0.0),
    ];
    Figures::until(addr, &waiting).await.check(&[
        (
            "podwork_posts_total{kind=\"chunk\",result=\"accepted\"}",
            2.0,
        ),
        (
            "podwork_posts_total{kind=\"chunk\",result=\"refused\"}",
            1.0,
        ),
        (
            "podwork_posts_total{kind=\"result\",result=\"accepted\"}",
            0.0,
        ),
        ("podwork_jobs_total{outcome=\"refused\"}", 0.0),
    ]);
    drop(platform);
    drop(worker);
}

#[handler(max_batch = 2, max_wait = "1ms")]
fn lengths(texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_counted_with_their_sizes_and_reasons() {
    let platform = Platform::builder().start().await.unwrap();
    let (listener, addr) = listener();
    // Both jobs are queued before the worker starts, so that it takes them in one call.
    let first = [
        submit(&platform, &json!("a")),
        submit(&platform, &json!("b")),
    ];
    let worker = Worker::new::<lengths>()
        .max_wait(Duration::from_secs(2))
        .metrics_on(listener);
    let worker = start(worker, platform.worker_env("w"));
    for id in &first {
        ended(&platform, id).await;
    }
    ended(&platform, &submit(&platform, &json!("c"))).await;
    let done = [("podwork_jobs_total{outcome=\"completed\"}", 3.0)];
    Figures::until(addr, &done).await.check(&[
        ("podwork_batches_total{reason=\"full\"}", 1.0),
        ("podwork_batches_total{reason=\"waited\"}", 1.0),
        ("podwork_batch_jobs_count", 2.0),
        ("podwork_batch_jobs_sum", 3.0),
        ("podwork_batch_jobs_bucket{le=\"1.0\"}", 1.0),
        // One batch runs while the next one forms.
        ("podwork_concurrency_limit", 4.0),
    ]);
    platform.close();
    worker.stop().await.unwrap();
}

/// Blocks every caller until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

#[handler]
async fn blocks(gate: &Arc<Gate>, cx: Context) {
    cx.progress("blocking");
    let open = gate.open.lock().unwrap();
    drop(gate.opened.wait_while(open, |open| !*open).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_scrapes_while_a_handler_blocks_the_only_thread() {
    let platform = Platform::builder().start().await.unwrap();
    let (listener, addr) = listener();
    let handlers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let gate = Arc::new(Gate::default());
    let worker = Worker::new::<blocks>()
        .state(Arc::clone(&gate))
        .metrics_on(listener);
    let worker = start_on(handlers.handle(), worker, platform.worker_env("w"));
    let id = submit(&platform, &Value::Null);
    let mut events = Box::pin(platform.follow(&id));
    while !matches!(events.next().await.unwrap(), JobEvent::Progress(_)) {}
    let figures = Figures::scrape(addr).await;
    figures.check(&[("podwork_jobs_running", 1.0)]);
    *gate.open.lock().unwrap() = true;
    gate.opened.notify_all();
    Figures::until(addr, &[("podwork_jobs_running", 0.0)]).await;
    platform.close();
    worker.stop().await.unwrap();
    handlers.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_to_start_if_the_metrics_port_is_in_use() {
    let platform = Scripted::start(|_: &Recorded, _| Answer::Hold).await;
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let serving = |value: String| {
        let env = [platform.env("w"), vec![("PODWORK_METRICS_PORT", value)]].concat();
        // The variable overrides the port set in code.
        Worker::new::<sleeps>()
            .metrics(1)
            .env(env)
            .serve(std::future::pending())
    };
    let error = serving(port.to_string()).await.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, Error::Metrics { .. }), "{said}");
    let begins = format!("cannot serve metrics on 0.0.0.0:{port} (set another port ");
    assert!(said.starts_with(&begins), "{said}");
    assert!(
        said.ends_with("with PODWORK_METRICS_PORT or Worker::metrics)"),
        "{said}"
    );
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("in use"), "{cause}");
    let said = serving("9090/tcp".to_owned())
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        said,
        "PODWORK_METRICS_PORT is `9090/tcp`: not a whole number above 0, or too large; set it to a port number"
    );
    assert!(platform.of("job-take").is_empty(), "no poll was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_only_metrics_and_disconnects_silent_clients() {
    let platform = Scripted::start(|_: &Recorded, _| Answer::Hold).await;
    let (listener, addr) = listener();
    let worker = Worker::new::<sleeps>().metrics_on(listener);
    let worker = start(worker, platform.env("w"));
    let url = format!("http://{addr}");
    let http = client();
    let elsewhere = http.get(&url).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404);
    let posted = http.post(format!("{url}/metrics")).send().await.unwrap();
    assert_eq!(posted.status(), 405);
    assert_eq!(posted.headers()["allow"], "GET, HEAD");
    let head = http.head(format!("{url}/metrics")).send().await.unwrap();
    assert_eq!(head.status(), 200);

    // Silent clients fill all connection slots: the server disconnects them and serves the next scrape.
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    Figures::scrape(addr).await;
    worker.stop().await.unwrap();
}
