use podwork_protocol::client::StreamResponse;
use podwork_protocol::limits;
use podwork_protocol::worker::Post;
use serde_json::json;

use super::super::job::Refusal;
use super::*;

const WORKER: &str = "w";

/// An endpoint with its own clock.
struct Bench {
    endpoint: Endpoint,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            endpoint: Endpoint::new(Arc::default()),
            now: Instant::now(),
        }
    }

    fn submit(&mut self, id: &str) {
        let submission = Submission {
            id: id.into(),
            input: raw(&json!(null)),
            extra: Map::new(),
            execution_timeout: limits::DEFAULT_EXECUTION_TIMEOUT,
            ttl: limits::DEFAULT_TTL,
            retention: limits::RUN_RETENTION,
            webhook: None,
        };
        self.endpoint.submit(submission, self.now).unwrap();
    }

    fn take(&mut self, worker: &str, wanted: usize) -> Vec<String> {
        let jobs = self.endpoint.take(worker, wanted, self.now);
        jobs.into_iter().map(|job| job.id).collect()
    }

    fn post(&mut self, worker: &str, id: &str, post: &Value) -> Result<(), Refusal> {
        let post: Post = serde_json::from_str(&post.to_string()).unwrap();
        self.endpoint.post(worker, id, post, self.now)
    }

    fn chunk(&mut self, id: &str, chunk: &Value) -> Result<(), Refusal> {
        self.keyed_chunk(id, chunk, None)
    }

    fn keyed_chunk(&mut self, id: &str, chunk: &Value, key: Option<&str>) -> Result<(), Refusal> {
        let chunk = raw(chunk);
        self.endpoint.chunk(WORKER, id, chunk, key, self.now)
    }

    /// Lets time pass, with a ping of the worker each second if it is `alive`.
    fn pass(&mut self, time: Duration, alive: bool) {
        for _ in 0..time.as_secs() {
            self.now += Duration::from_secs(1);
            if alive {
                let worker = self.endpoint.workers.get_mut(WORKER);
                let jobs = worker.map(|worker| worker.jobs.clone()).unwrap_or_default();
                let running = jobs.iter().map(|id| &**id);
                self.endpoint.ping(WORKER, running, false, self.now);
            }
            self.endpoint.expire(self.now);
        }
    }

    fn status(&self, id: &str) -> Option<JobStatus> {
        self.endpoint.status(id).ok().map(|status| status.status)
    }

    fn stream(&mut self, id: &str) -> Option<(StreamResponse, usize)> {
        self.endpoint.stream(id, false).unwrap()
    }

    fn outputs(&mut self, id: &str) -> Vec<String> {
        let (response, _) = self.stream(id).unwrap();
        response
            .stream
            .into_iter()
            .map(|chunk| chunk.output.to_string())
            .collect()
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

#[test]
fn jobs_are_handed_out_in_order_and_end_with_their_times() {
    let mut bench = Bench::new();
    for id in ["a", "b", "c"] {
        bench.submit(id);
    }
    bench.pass(Duration::from_secs(2), false);
    assert_eq!(bench.take(WORKER, 2), ["a", "b"]);
    bench.pass(Duration::from_secs(3), true);
    bench.post(WORKER, "a", &json!({"output": 1})).unwrap();
    bench.post(WORKER, "b", &json!({"error": "no"})).unwrap();
    let a = bench.endpoint.status("a").unwrap();
    assert_eq!(
        (a.status, a.delay_time, a.execution_time),
        (JobStatus::Completed, Some(2000), Some(3000))
    );
    assert_eq!(bench.status("b"), Some(JobStatus::Failed));
    let health = bench.endpoint.health();
    let jobs = health.jobs;
    assert_eq!(
        (jobs.completed, jobs.failed, jobs.in_progress, jobs.in_queue),
        (1, 1, 0, 1)
    );
}

#[test]
fn results_are_kept_as_long_as_documented() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.take(WORKER, 1);
    bench.post(WORKER, "a", &json!({"output": 1})).unwrap();
    bench.pass(Duration::from_secs(30 * 60 - 1), false);
    assert_eq!(bench.status("a"), Some(JobStatus::Completed));
    bench.pass(Duration::from_secs(1), false);
    assert_eq!(bench.status("a"), None);
    assert_eq!(bench.endpoint.store.len(), 0);
    assert_eq!(
        bench.endpoint.next_deadline(),
        None,
        "nothing is left behind"
    );
}

#[test]
fn a_job_that_runs_too_long_times_out_and_its_worker_is_told() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.take(WORKER, 1);
    bench.pass(limits::DEFAULT_EXECUTION_TIMEOUT, true);
    assert_eq!(bench.status("a"), Some(JobStatus::TimedOut));
    assert_eq!(bench.endpoint.stops(WORKER), ["a"]);
    bench.post(WORKER, "a", &json!({"output": 1})).unwrap();
    assert_eq!(
        bench.status("a"),
        Some(JobStatus::TimedOut),
        "a late result changes nothing"
    );
}

#[test]
fn a_job_past_its_ttl_is_gone_in_whatever_state() {
    let mut bench = Bench::new();
    bench.submit("queued");
    bench.submit("running");
    let first = bench.take(WORKER, 1);
    for id in ["queued", "running"] {
        bench
            .endpoint
            .shorten(id, Duration::from_secs(10), bench.now);
    }
    bench.pass(Duration::from_secs(10), true);
    assert_eq!(
        (bench.status("queued"), bench.status("running")),
        (None, None)
    );
    assert_eq!(bench.endpoint.stops(WORKER), first);
    assert_eq!(bench.endpoint.health().jobs, JobCounts::default());
}

#[test]
fn a_silent_worker_loses_its_jobs_and_they_fail_after_three_tries() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.submit("b");
    for attempt in 1..=3 {
        assert_eq!(bench.take(WORKER, 1), ["a"], "first in the queue again");
        bench.endpoint.ping(WORKER, [], false, bench.now);
        bench.pass(Duration::from_secs(59), false);
        assert_eq!(bench.status("a"), Some(JobStatus::InProgress));
        bench.pass(Duration::from_secs(1), false);
        let expected = if attempt < 3 {
            JobStatus::InQueue
        } else {
            JobStatus::Failed
        };
        assert_eq!(bench.status("a"), Some(expected));
    }
    let counts = bench.endpoint.health().jobs;
    assert_eq!(
        (counts.retried, counts.failed, counts.in_progress),
        (2, 1, 0)
    );
    let error = bench.endpoint.status("a").unwrap().error.unwrap();
    assert_eq!(
        error,
        "the job was lost with its worker 3 times; the last was w"
    );
}

#[test]
fn an_open_poll_keeps_a_worker_alive() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.take(WORKER, 1);
    bench
        .endpoint
        .poll_opened(WORKER, false, bench.now)
        .unwrap();
    bench.pass(Duration::from_mins(5), false);
    assert_eq!(bench.status("a"), Some(JobStatus::InProgress));
    bench.endpoint.poll_closed(WORKER, bench.now);
    bench.pass(Duration::from_mins(1), false);
    assert_eq!(bench.status("a"), Some(JobStatus::InQueue));
}

#[test]
fn jobs_that_did_not_arrive_go_back_in_their_order() {
    let mut bench = Bench::new();
    for id in ["a", "b", "c"] {
        bench.submit(id);
    }
    let taken = bench.take(WORKER, 2);
    bench.endpoint.give_back(WORKER, &taken);
    assert_eq!(
        bench.endpoint.health().jobs.retried,
        0,
        "it was never handed out"
    );
    assert_eq!(bench.take("other", 3), ["a", "b", "c"]);
    bench.endpoint.give_back(WORKER, &taken);
    assert_eq!(
        bench.status("a"),
        Some(JobStatus::InProgress),
        "it is somebody else's now"
    );
}

#[test]
fn cancelling_is_idempotent_and_reaches_the_worker() {
    let mut bench = Bench::new();
    bench.submit("running");
    bench.submit("queued");
    bench.take(WORKER, 1);
    for _ in 0..2 {
        for id in ["queued", "running"] {
            let state = bench.endpoint.cancel(id, bench.now).unwrap();
            assert_eq!(state.status, JobStatus::Cancelled);
        }
    }
    assert_eq!(
        bench.take("other", 9),
        Vec::<String>::new(),
        "a cancelled job never runs"
    );
    assert_eq!(bench.endpoint.stops("other"), Vec::<String>::new());
    assert_eq!(bench.endpoint.stops(WORKER), ["running"]);
    bench.endpoint.unstop(WORKER, vec!["running".to_owned()]);
    assert_eq!(
        bench.endpoint.stops(WORKER),
        ["running"],
        "a broken poll loses no signal"
    );
}

#[test]
fn a_worker_that_goes_on_with_a_job_is_told_to_stop_it_again() {
    let mut bench = Bench::new();
    for id in ["own", "cancelled", "done"] {
        bench.submit(id);
    }
    bench.take(WORKER, 3);
    bench.post(WORKER, "done", &json!({"output": 1})).unwrap();
    bench.endpoint.cancel("cancelled", bench.now).unwrap();
    for _ in 0..2 {
        bench.endpoint.stops(WORKER);
        let running = ["own", "cancelled", "done", "never-seen"];
        bench.endpoint.ping(WORKER, running, false, bench.now);
        assert_eq!(bench.endpoint.stops(WORKER), ["cancelled", "never-seen"]);
    }
}

#[test]
fn only_what_failed_can_be_retried_and_it_starts_afresh() {
    let mut bench = Bench::new();
    bench.submit("a");
    assert!(matches!(
        bench.endpoint.retry("a", bench.now),
        Err(Refusal::Bad(_))
    ));
    bench.take(WORKER, 1);
    bench.chunk("a", &json!("x")).unwrap();
    bench.post(WORKER, "a", &json!({"error": "no"})).unwrap();
    bench.endpoint.retry("a", bench.now).unwrap();
    let status = bench.endpoint.status("a").unwrap();
    assert_eq!(
        (status.status, status.error, status.output.is_none()),
        (JobStatus::InQueue, None, true)
    );
    assert_eq!(bench.take("other", 1), ["a"]);
    bench.post("other", "a", &json!({"output": null})).unwrap();
    assert_eq!(
        bench.endpoint.status("a").unwrap().output.unwrap().get(),
        "null"
    );
    assert_eq!(bench.outputs("a"), Vec::<String>::new());
}

#[test]
fn purging_removes_what_waits_and_leaves_what_runs() {
    let mut bench = Bench::new();
    for id in ["a", "b", "c"] {
        bench.submit(id);
    }
    bench.take(WORKER, 1);
    assert_eq!(bench.endpoint.purge().removed, 2);
    assert_eq!(
        (bench.status("a"), bench.status("b")),
        (Some(JobStatus::InProgress), None)
    );
}

#[test]
fn a_workers_word_counts_only_for_a_job_it_has() {
    let mut bench = Bench::new();
    bench.submit("a");
    assert!(matches!(
        bench.post(WORKER, "x", &json!({})),
        Err(Refusal::NotFound(_))
    ));
    assert!(matches!(
        bench.post(WORKER, "a", &json!({})),
        Err(Refusal::Conflict(_))
    ));
    bench.take(WORKER, 1);
    assert!(matches!(
        bench.post("other", "a", &json!({})),
        Err(Refusal::Conflict(_))
    ));
    bench.post(WORKER, "a", &json!({"output": 1})).unwrap();
    bench.post(WORKER, "a", &json!({"output": 2})).unwrap();
    assert_eq!(
        bench.endpoint.status("a").unwrap().output.unwrap().get(),
        "1",
        "the first counts"
    );
    assert!(matches!(
        bench.chunk("a", &json!(1)),
        Err(Refusal::Conflict(_))
    ));
}

#[test]
fn late_and_double_results_change_nothing_and_are_counted() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.take(WORKER, 1);
    // Nothing is heard of the worker, and another does its job.
    bench.pass(Duration::from_mins(2), false);
    assert_eq!(bench.take("other", 1), ["a"]);
    let late = bench.post(WORKER, "a", &json!({"output": "late"}));
    assert!(matches!(late, Err(Refusal::Conflict(_))));
    let progress = json!({"status": "IN_PROGRESS", "output": 1});
    assert!(bench.post(WORKER, "a", &progress).is_err());
    assert_eq!(bench.endpoint.late_results(), 1, "progress is no result");
    bench.post("other", "a", &json!({"output": 1})).unwrap();
    bench
        .post("other", "a", &json!({"error": "again"}))
        .unwrap();
    assert!(bench.post("other", "gone", &json!({"output": 1})).is_err());
    assert_eq!(bench.endpoint.late_results(), 3);
    assert_eq!(bench.status("a"), Some(JobStatus::Completed));
    let health = bench.endpoint.health();
    assert_eq!((health.jobs.completed, health.jobs.failed), (1, 0));
    let lost = bench.endpoint.workers.get_mut(WORKER);
    assert!(lost.is_none(), "a late word makes no worker");
}

#[test]
fn progress_is_shown_until_the_result_is_there() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.take(WORKER, 1);
    bench
        .post(
            WORKER,
            "a",
            &json!({"status": "IN_PROGRESS", "output": "half"}),
        )
        .unwrap();
    let status = bench.endpoint.status("a").unwrap();
    assert_eq!(
        (status.status, status.output.unwrap().get()),
        (JobStatus::InProgress, "\"half\"")
    );
    bench.endpoint.cancel("a", bench.now).unwrap();
    assert!(
        bench.endpoint.status("a").unwrap().output.is_none(),
        "progress is no result"
    );
}

#[test]
fn each_chunk_is_handed_out_once_and_a_final_status_only_with_the_last() {
    let mut bench = Bench::new();
    bench.submit("a");
    assert!(bench.stream("a").is_none(), "nothing new: the call is held");
    bench.take(WORKER, 1);
    bench.chunk("a", &json!(1)).unwrap();
    bench.chunk("a", &json!(2)).unwrap();
    let (response, mark) = bench.stream("a").unwrap();
    assert_eq!(
        (response.status, response.stream.len()),
        (JobStatus::InProgress, 2)
    );
    assert!(bench.stream("a").is_none());
    bench.endpoint.unstream("a", mark);
    bench.chunk("a", &json!(3)).unwrap();
    bench.post(WORKER, "a", &json!({"output": []})).unwrap();
    let (response, _) = bench.stream("a").unwrap();
    assert_eq!(
        (response.status, response.stream.len()),
        (JobStatus::Completed, 3),
        "nothing lost"
    );
    let (response, _) = bench.stream("a").unwrap();
    assert_eq!(
        (response.status, response.stream.len()),
        (JobStatus::Completed, 0)
    );
}

#[test]
fn a_chunk_that_comes_again_by_its_key_is_one() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.take(WORKER, 1);
    for (chunk, key) in [(1, "k1"), (1, "k1"), (1, "k2"), (2, "k3"), (2, "k3")] {
        bench.keyed_chunk("a", &json!(chunk), Some(key)).unwrap();
    }
    let (response, _) = bench.stream("a").unwrap();
    let chunks: Vec<_> = response
        .stream
        .iter()
        .map(|item| item.output.get())
        .collect();
    assert_eq!(chunks, ["1", "1", "2"]);
}

#[test]
fn a_stream_that_nobody_reads_is_bounded() {
    let mut bench = Bench::new();
    Arc::make_mut(&mut bench.endpoint.rules).stream_buffer = 10;
    bench.submit("a");
    bench.take(WORKER, 1);
    bench.chunk("a", &json!("12345")).unwrap();
    assert!(matches!(
        bench.chunk("a", &json!("12345")),
        Err(Refusal::TooLarge(_))
    ));
    assert_eq!(bench.outputs("a"), ["\"12345\""]);
    bench.chunk("a", &json!("67890")).unwrap();
    assert_eq!(bench.outputs("a"), ["\"67890\""]);
}

#[test]
fn workers_are_counted_by_what_they_do() {
    let mut bench = Bench::new();
    bench.endpoint.ping("starting", [], false, bench.now);
    bench.endpoint.ping("ill", [], true, bench.now);
    bench.endpoint.poll_opened("idle", true, bench.now).unwrap();
    bench.endpoint.poll_opened(WORKER, true, bench.now).unwrap();
    bench.submit("a");
    bench.take(WORKER, 1);
    let counts = bench.endpoint.health().workers;
    assert_eq!(
        (counts.initializing, counts.unhealthy, counts.idle),
        (1, 1, 1)
    );
    assert_eq!((counts.running, counts.ready), (1, 2));
    bench
        .post(WORKER, "a", &json!({"output": 1, "stopPod": true}))
        .unwrap();
    assert_eq!(
        bench.endpoint.health().workers.ready,
        1,
        "it is being replaced"
    );
}

#[test]
fn a_worker_that_is_replaced_keeps_its_other_jobs() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.submit("b");
    bench.take(WORKER, 2);
    bench
        .post(WORKER, "a", &json!({"output": 1, "stopPod": true}))
        .unwrap();
    assert_eq!(bench.endpoint.health().workers.running, 1);
    // It ends without a word, and its job is for others.
    bench.pass(Duration::from_mins(2), false);
    assert_eq!(bench.take("other", 1), ["b"]);
}

#[test]
fn workers_over_the_limit_are_throttled_until_there_is_room() {
    let mut bench = Bench::new();
    Arc::make_mut(&mut bench.endpoint.rules).workers = 1;
    let admit = |bench: &mut Bench, id| {
        let admitted = bench.endpoint.admit(id, bench.now);
        if admitted.is_ok() {
            bench.endpoint.poll_opened(id, true, bench.now).unwrap();
            bench.endpoint.poll_closed(id, bench.now);
        }
        admitted
    };
    admit(&mut bench, "first").unwrap();
    admit(&mut bench, "first").unwrap();
    assert!(matches!(admit(&mut bench, "second"), Err(Refusal::Full(_))));
    let counts = bench.endpoint.health().workers;
    assert_eq!((counts.idle, counts.ready, counts.throttled), (1, 1, 1));
    bench.pass(Duration::from_mins(2), false);
    admit(&mut bench, "second").unwrap();
    let counts = bench.endpoint.health().workers;
    assert_eq!((counts.idle, counts.throttled), (1, 0));
}

#[test]
fn a_full_endpoint_takes_no_more() {
    let mut bench = Bench::new();
    Arc::make_mut(&mut bench.endpoint.rules).jobs = 1;
    bench.submit("a");
    let submission = Submission {
        id: "b".into(),
        input: raw(&json!(1)),
        extra: Map::new(),
        execution_timeout: Duration::from_secs(5),
        ttl: Duration::from_secs(10),
        retention: Duration::from_secs(1),
        webhook: None,
    };
    assert!(matches!(
        bench.endpoint.submit(submission, bench.now),
        Err(Refusal::Full(_))
    ));
}
