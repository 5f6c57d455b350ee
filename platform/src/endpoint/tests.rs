use std::time::Duration;

use bytes::Bytes;
use podwork_protocol::client::{JobCounts, StatusResponse, StreamResponse};
use podwork_protocol::{JobStatus, limits};
use serde_json::{Value, json};

use super::*;
use crate::answers::{status_text, stream_text};
use crate::clock::Clock;
use crate::engine::Submission;
use crate::waiters::Waiters;

const WORKER: &str = "w";

/// Returns the result of a future that never waits, such as those of the memory store.
pub(super) fn at_once<T>(answer: impl Future<Output = T>) -> T {
    futures::FutureExt::now_or_never(answer).unwrap()
}

/// An endpoint with its own clock.
struct Bench {
    endpoint: Endpoint,
    clock: Clock,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::at_rest();
        let store = Memory::new(clock.clone(), Arc::<Waiters>::default());
        Self {
            endpoint: Endpoint::new(Arc::default(), store),
            clock,
        }
    }

    fn rules(&mut self) -> &mut Rules {
        Arc::make_mut(&mut self.endpoint.rules)
    }

    fn submit(&mut self, id: &str) {
        let submission = Submission {
            id: id.into(),
            input: "null".into(),
            extra: Bytes::new(),
            execution_timeout: limits::DEFAULT_EXECUTION_TIMEOUT,
            ttl: limits::DEFAULT_TTL,
            retention: limits::RUN_RETENTION,
            webhook: None,
        };
        at_once(self.endpoint.submit(submission)).unwrap();
    }

    fn take(&mut self, worker: &str, wanted: usize) -> Vec<String> {
        let jobs = at_once(self.endpoint.take(worker, wanted));
        jobs.iter().map(|job| job.record.id.to_string()).collect()
    }

    fn give_back(&mut self, worker: &str, ids: &[String]) {
        let ids: Vec<Id> = ids.iter().map(|id| (&**id).into()).collect();
        at_once(self.endpoint.give_back(worker, &ids));
    }

    fn stops(&mut self, worker: &str) -> Vec<String> {
        let ids = at_once(self.endpoint.stops(worker));
        ids.iter().map(ToString::to_string).collect()
    }

    fn post(&mut self, worker: &str, id: &str, post: &Value) -> Result<(), Refusal> {
        let text = |name: &str| post.get(name).map(ToString::to_string);
        let result = NewResult {
            is_progress: post["status"] == "IN_PROGRESS",
            output: text("output").map(Into::into),
            error: text("error").map(Into::into),
            stop_pod: post["stopPod"] == true,
        };
        at_once(self.endpoint.post(worker, id, result))
    }

    fn chunk(&mut self, id: &str, chunk: &Value) -> Result<(), Refusal> {
        self.keyed_chunk(id, chunk, None)
    }

    fn keyed_chunk(&mut self, id: &str, chunk: &Value, key: Option<&str>) -> Result<(), Refusal> {
        let chunk = chunk.to_string().into();
        at_once(self.endpoint.chunk(WORKER, id, chunk, key))
    }

    /// Advances the clock, with a ping of the worker each second if it is `alive`.
    fn pass(&mut self, time: Duration, alive: bool) {
        for _ in 0..time.as_secs() {
            self.clock.advance(Duration::from_secs(1));
            if alive {
                let jobs = at_once(self.endpoint.store.held(WORKER));
                let running: Vec<&str> = jobs.iter().map(|id| &**id).collect();
                at_once(self.endpoint.ping(WORKER, &running, false));
            }
            at_once(self.endpoint.expire());
        }
    }

    fn response(&self, id: &str) -> Result<StatusResponse, Refusal> {
        let job = at_once(self.endpoint.job(id, Wanted::Output))?;
        let text =
            status_text(&job.record, job.output.as_ref(), self.endpoint.rules()).into_bytes();
        Ok(serde_json::from_slice(&text).unwrap())
    }

    fn status(&self, id: &str) -> Option<JobStatus> {
        self.response(id).ok().map(|status| status.status)
    }

    /// Returns a response of `/stream` that is not written to the connection yet.
    fn unread(&self, id: &str) -> Option<(StreamResponse, Stored)> {
        let job = at_once(self.endpoint.unread(id, false)).unwrap()?;
        let text = stream_text(&job, self.endpoint.rules()).into_bytes();
        Some((serde_json::from_slice(&text).unwrap(), job))
    }

    /// Returns a response of `/stream` that has been written.
    fn stream(&mut self, id: &str) -> Option<StreamResponse> {
        let (response, job) = self.unread(id)?;
        at_once(self.endpoint.mark_read(&job));
        Some(response)
    }

    fn outputs(&mut self, id: &str) -> Vec<String> {
        let response = self.stream(id).unwrap();
        response
            .stream
            .into_iter()
            .map(|chunk| chunk.output.to_string())
            .collect()
    }
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
    let a = bench.response("a").unwrap();
    assert_eq!(
        (a.status, a.delay_time, a.execution_time),
        (JobStatus::Completed, Some(2000), Some(3000))
    );
    assert_eq!(bench.status("b"), Some(JobStatus::Failed));
    let health = at_once(bench.endpoint.health());
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
    assert_eq!(at_once(bench.endpoint.store.counts()).0, 0);
    assert_eq!(
        at_once(bench.endpoint.next_deadline()),
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
    assert_eq!(bench.stops(WORKER), ["a"]);
    bench.post(WORKER, "a", &json!({"output": 1})).unwrap();
    assert_eq!(
        bench.status("a"),
        Some(JobStatus::TimedOut),
        "a late result changes nothing"
    );
}

#[test]
fn a_job_expires_after_its_ttl_in_any_state() {
    let mut bench = Bench::new();
    bench.submit("queued");
    bench.submit("running");
    let first = bench.take(WORKER, 1);
    for id in ["queued", "running"] {
        at_once(bench.endpoint.shorten(id, Duration::from_secs(10)));
    }
    bench.pass(Duration::from_secs(10), true);
    assert_eq!(
        (bench.status("queued"), bench.status("running")),
        (None, None)
    );
    assert_eq!(bench.stops(WORKER), first);
    assert_eq!(at_once(bench.endpoint.health()).jobs, JobCounts::default());
}

#[test]
fn a_silent_worker_loses_its_jobs_and_they_fail_after_three_tries() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.submit("b");
    for attempt in 1..=3 {
        assert_eq!(bench.take(WORKER, 1), ["a"], "first in the queue again");
        at_once(bench.endpoint.ping(WORKER, &[], false));
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
    let counts = at_once(bench.endpoint.health()).jobs;
    assert_eq!(
        (counts.retried, counts.failed, counts.in_progress),
        (2, 1, 0)
    );
    let error = bench.response("a").unwrap().error.unwrap();
    assert_eq!(error, "the job lost its worker 3 times; last worker: w");
}

#[test]
fn a_lost_job_is_retried_once_after_40_seconds_with_the_current_rules() {
    let mut bench = Bench::new();
    *bench.rules() = Rules::current();
    bench.submit("a");
    bench.take(WORKER, 1);
    bench.pass(Duration::from_secs(39), false);
    assert_eq!(bench.status("a"), Some(JobStatus::InProgress));
    bench.pass(Duration::from_secs(1), false);
    assert_eq!(bench.status("a"), Some(JobStatus::InQueue));
    bench.take(WORKER, 1);
    bench.pass(Duration::from_secs(40), false);
    let response = bench.response("a").unwrap();
    assert_eq!(response.status, JobStatus::Failed);
    assert_eq!(response.error.unwrap(), "job timed out after 1 retries");
}

#[test]
fn the_error_of_a_lost_job_is_a_rule() {
    let mut bench = Bench::new();
    bench.rules().tries = 1;
    bench.rules().lost_error = "\"{worker}\" {tries}{retries} {other}".to_owned();
    bench.submit("a");
    bench.take("{tries}", 1);
    bench.pass(Duration::from_mins(1), false);
    let error = bench.response("a").unwrap().error.unwrap();
    assert_eq!(error, "\"{tries}\" 10 {other}");
}

#[test]
fn a_job_that_is_handed_out_again_shows_its_retries_and_delay_time() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.pass(Duration::from_secs(7), false);
    let taken = bench.take(WORKER, 1);
    let first = bench.response("a").unwrap();
    assert_eq!((first.retries, first.delay_time), (None, Some(7000)));
    // A job that did not arrive was not handed out.
    bench.give_back(WORKER, &taken);
    bench.pass(Duration::from_secs(1), false);
    bench.take(WORKER, 1);
    let first = bench.response("a").unwrap();
    assert_eq!((first.retries, first.delay_time), (None, Some(8000)));
    bench.pass(Duration::from_mins(1), false);
    let queued = bench.response("a").unwrap();
    assert_eq!((queued.retries, queued.delay_time), (Some(1), None));
    bench.pass(Duration::from_secs(2), false);
    bench.take(WORKER, 1);
    let second = bench.response("a").unwrap();
    assert_eq!((second.retries, second.delay_time), (Some(1), Some(2000)));
    bench.pass(Duration::from_secs(3), true);
    bench.post(WORKER, "a", &json!({"error": "no"})).unwrap();
    let failed = bench.response("a").unwrap();
    assert_eq!(
        (failed.retries, failed.execution_time),
        (Some(1), Some(3000))
    );
    at_once(bench.endpoint.retry("a")).unwrap();
    bench.pass(Duration::from_secs(4), false);
    bench.take(WORKER, 1);
    let third = bench.response("a").unwrap();
    assert_eq!((third.retries, third.delay_time), (Some(2), Some(4000)));
    let counts = at_once(bench.endpoint.health()).jobs;
    assert_eq!(counts.retried, 2, "as in /health");
}

#[test]
fn a_removed_worker_loses_its_jobs_and_its_late_calls_do_not_add_it() {
    let mut bench = Bench::new();
    bench.submit("a");
    at_once(bench.endpoint.poll_opened(WORKER, true)).unwrap();
    at_once(bench.endpoint.poll_opened("other", true)).unwrap();
    bench.take(WORKER, 1);
    at_once(bench.endpoint.remove_worker(WORKER));
    assert_eq!(bench.status("a"), Some(JobStatus::InQueue));
    // Its connections end after its process.
    at_once(bench.endpoint.poll_closed(WORKER));
    let _late: Result<_, Refusal> = bench.post(WORKER, "a", &json!({ "output": 1 }));
    let workers = at_once(bench.endpoint.health()).workers;
    assert_eq!((workers.ready, workers.initializing), (1, 0));
    assert_eq!(bench.take("other", 1), ["a"]);
    at_once(bench.endpoint.remove_worker("unknown"));
}

#[test]
fn an_open_poll_keeps_a_worker_alive() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.take(WORKER, 1);
    at_once(bench.endpoint.poll_opened(WORKER, false)).unwrap();
    bench.pass(Duration::from_mins(5), false);
    assert_eq!(bench.status("a"), Some(JobStatus::InProgress));
    at_once(bench.endpoint.poll_closed(WORKER));
    bench.pass(Duration::from_mins(1), false);
    assert_eq!(bench.status("a"), Some(JobStatus::InQueue));
}

#[test]
fn undelivered_jobs_return_to_the_queue_in_order() {
    let mut bench = Bench::new();
    for id in ["a", "b", "c"] {
        bench.submit(id);
    }
    let taken = bench.take(WORKER, 2);
    bench.give_back(WORKER, &taken);
    assert_eq!(
        at_once(bench.endpoint.health()).jobs.retried,
        0,
        "a job that did not arrive does not count as retried"
    );
    assert_eq!(bench.take("other", 3), ["a", "b", "c"]);
    bench.give_back(WORKER, &taken);
    assert_eq!(
        bench.status("a"),
        Some(JobStatus::InProgress),
        "another worker holds it now"
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
            let state = at_once(bench.endpoint.cancel(id)).unwrap();
            assert_eq!(state.status, JobStatus::Cancelled);
        }
    }
    assert_eq!(
        bench.take("other", 9),
        Vec::<String>::new(),
        "a cancelled job never runs"
    );
    assert_eq!(bench.stops("other"), Vec::<String>::new());
    assert_eq!(bench.stops(WORKER), ["running"]);
    at_once(bench.endpoint.unstop(WORKER, &["running".into()]));
    assert_eq!(
        bench.stops(WORKER),
        ["running"],
        "a broken poll loses no stop signal"
    );
}

#[test]
fn a_worker_that_continues_a_cancelled_job_is_signalled_again() {
    let mut bench = Bench::new();
    for id in ["own", "cancelled", "done"] {
        bench.submit(id);
    }
    bench.take(WORKER, 3);
    bench.post(WORKER, "done", &json!({"output": 1})).unwrap();
    at_once(bench.endpoint.cancel("cancelled")).unwrap();
    for _ in 0..2 {
        bench.stops(WORKER);
        let running = ["own", "cancelled", "done", "never-seen"];
        at_once(bench.endpoint.ping(WORKER, &running, false));
        assert_eq!(bench.stops(WORKER), ["cancelled", "never-seen"]);
    }
}

#[test]
fn only_failed_and_timed_out_jobs_can_be_retried() {
    let mut bench = Bench::new();
    bench.submit("a");
    assert!(matches!(
        at_once(bench.endpoint.retry("a")),
        Err(Refusal::Bad(_))
    ));
    bench.take(WORKER, 1);
    bench.chunk("a", &json!("x")).unwrap();
    bench.post(WORKER, "a", &json!({"error": "no"})).unwrap();
    at_once(bench.endpoint.retry("a")).unwrap();
    let status = bench.response("a").unwrap();
    assert_eq!(
        (status.status, status.error, status.output.is_none()),
        (JobStatus::InQueue, None, true)
    );
    assert_eq!(bench.take("other", 1), ["a"]);
    bench.post("other", "a", &json!({"output": null})).unwrap();
    assert_eq!(bench.response("a").unwrap().output.unwrap().get(), "null");
    assert_eq!(bench.outputs("a"), Vec::<String>::new());
}

#[test]
fn purging_removes_queued_jobs_and_keeps_running_ones() {
    let mut bench = Bench::new();
    for id in ["a", "b", "c"] {
        bench.submit(id);
    }
    bench.take(WORKER, 1);
    assert_eq!(at_once(bench.endpoint.purge()).removed, 2);
    assert_eq!(
        (bench.status("a"), bench.status("b")),
        (Some(JobStatus::InProgress), None)
    );
}

#[test]
fn a_worker_can_only_report_on_its_own_jobs() {
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
        bench.response("a").unwrap().output.unwrap().get(),
        "1",
        "the first result counts"
    );
    assert!(matches!(
        bench.chunk("a", &json!(1)),
        Err(Refusal::Conflict(_))
    ));
}

#[test]
fn late_and_duplicate_results_change_nothing_and_are_counted() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.take(WORKER, 1);
    // The worker is lost, and another one gets its job.
    bench.pass(Duration::from_mins(2), false);
    assert_eq!(bench.take("other", 1), ["a"]);
    let late = bench.post(WORKER, "a", &json!({"output": "late"}));
    assert!(matches!(late, Err(Refusal::Conflict(_))));
    let progress = json!({"status": "IN_PROGRESS", "output": 1});
    assert!(bench.post(WORKER, "a", &progress).is_err());
    assert_eq!(bench.endpoint.late_results(), 1, "progress is not a result");
    bench.post("other", "a", &json!({"output": 1})).unwrap();
    bench
        .post("other", "a", &json!({"error": "again"}))
        .unwrap();
    assert!(bench.post("other", "gone", &json!({"output": 1})).is_err());
    assert_eq!(bench.endpoint.late_results(), 3);
    assert_eq!(bench.status("a"), Some(JobStatus::Completed));
    let health = at_once(bench.endpoint.health());
    assert_eq!((health.jobs.completed, health.jobs.failed), (1, 0));
    let lost = at_once(bench.endpoint.store.worker(WORKER));
    assert!(lost.is_none(), "a late post does not add the worker again");
}

#[test]
fn progress_is_shown_until_the_result_arrives() {
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
    let status = bench.response("a").unwrap();
    assert_eq!(
        (status.status, status.output.unwrap().get()),
        (JobStatus::InProgress, "\"half\"")
    );
    at_once(bench.endpoint.cancel("a")).unwrap();
    assert!(
        bench.response("a").unwrap().output.is_none(),
        "progress is not a result"
    );
}

#[test]
fn each_chunk_is_returned_once_and_the_final_status_comes_with_the_last() {
    let mut bench = Bench::new();
    bench.submit("a");
    assert!(bench.stream("a").is_none(), "nothing new: the call is held");
    bench.take(WORKER, 1);
    bench.chunk("a", &json!(1)).unwrap();
    bench.chunk("a", &json!(2)).unwrap();
    let (response, _) = bench.unread("a").unwrap();
    assert_eq!(
        (response.status, response.stream.len()),
        (JobStatus::InProgress, 2)
    );
    // That response was not written.
    bench.chunk("a", &json!(3)).unwrap();
    assert_eq!(bench.outputs("a"), ["1", "2", "3"], "nothing lost");
    assert!(bench.stream("a").is_none());
    bench.chunk("a", &json!(4)).unwrap();
    let (_, slow) = bench.unread("a").unwrap();
    bench.chunk("a", &json!(5)).unwrap();
    bench.chunk("a", &json!(6)).unwrap();
    bench.post(WORKER, "a", &json!({"output": []})).unwrap();
    let response = bench.stream("a").unwrap();
    assert_eq!(
        (response.status, response.stream.len()),
        (JobStatus::Completed, 3),
        "nothing lost"
    );
    // An older response with some of these chunks is written as well.
    at_once(bench.endpoint.mark_read(&slow));
    bench.endpoint.store.contents().check();
    let response = bench.stream("a").unwrap();
    assert_eq!(
        (response.status, response.stream.len()),
        (JobStatus::Completed, 0)
    );
}

#[test]
fn a_chunk_with_the_same_key_is_stored_once() {
    let mut bench = Bench::new();
    bench.submit("a");
    bench.take(WORKER, 1);
    for (chunk, key) in [(1, "k1"), (1, "k1"), (1, "k2"), (2, "k3"), (2, "k3")] {
        bench.keyed_chunk("a", &json!(chunk), Some(key)).unwrap();
    }
    let response = bench.stream("a").unwrap();
    let chunks: Vec<_> = response
        .stream
        .iter()
        .map(|item| item.output.get())
        .collect();
    assert_eq!(chunks, ["1", "1", "2"]);
}

#[test]
fn an_unread_stream_is_bounded() {
    let mut bench = Bench::new();
    bench.rules().stream_buffer = 10;
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
fn workers_are_counted_by_state() {
    let mut bench = Bench::new();
    at_once(bench.endpoint.ping("starting", &[], false));
    at_once(bench.endpoint.ping("ill", &[], true));
    at_once(bench.endpoint.poll_opened("idle", true)).unwrap();
    at_once(bench.endpoint.poll_opened(WORKER, true)).unwrap();
    bench.submit("a");
    bench.take(WORKER, 1);
    let counts = at_once(bench.endpoint.health()).workers;
    assert_eq!(
        (counts.initializing, counts.unhealthy, counts.idle),
        (1, 1, 1)
    );
    assert_eq!((counts.running, counts.ready), (1, 2));
    bench
        .post(WORKER, "a", &json!({"output": 1, "stopPod": true}))
        .unwrap();
    assert_eq!(
        at_once(bench.endpoint.health()).workers.ready,
        1,
        "a worker that asked to be replaced is not ready"
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
    assert_eq!(at_once(bench.endpoint.health()).workers.running, 1);
    // The worker is lost, and its job is requeued.
    bench.pass(Duration::from_mins(2), false);
    assert_eq!(bench.take("other", 1), ["b"]);
}

#[test]
fn workers_over_the_limit_are_throttled_until_there_is_room() {
    let mut bench = Bench::new();
    bench.rules().workers = 1;
    let admit = |bench: &mut Bench, id| {
        let admitted = at_once(bench.endpoint.admit(id));
        if admitted.is_ok() {
            at_once(bench.endpoint.poll_opened(id, true)).unwrap();
            at_once(bench.endpoint.poll_closed(id));
        }
        admitted
    };
    admit(&mut bench, "first").unwrap();
    admit(&mut bench, "first").unwrap();
    assert!(matches!(admit(&mut bench, "second"), Err(Refusal::Full(_))));
    let counts = at_once(bench.endpoint.health()).workers;
    assert_eq!((counts.idle, counts.ready, counts.throttled), (1, 1, 1));
    bench.pass(Duration::from_mins(2), false);
    admit(&mut bench, "second").unwrap();
    let counts = at_once(bench.endpoint.health()).workers;
    assert_eq!((counts.idle, counts.throttled), (1, 0));
}

#[test]
fn a_full_endpoint_refuses_jobs() {
    let mut bench = Bench::new();
    bench.rules().jobs = 1;
    bench.submit("a");
    let submission = Submission {
        id: "b".into(),
        input: "1".into(),
        extra: Bytes::new(),
        execution_timeout: Duration::from_secs(5),
        ttl: Duration::from_secs(10),
        retention: Duration::from_secs(1),
        webhook: None,
    };
    assert!(matches!(
        at_once(bench.endpoint.submit(submission)),
        Err(Refusal::Full(_))
    ));
}

#[test]
fn concurrent_takes_get_each_job_once() {
    const JOBS: usize = 2000;
    let mut bench = Bench::new();
    for n in 0..JOBS {
        bench.submit(&format!("job-{n}"));
    }
    let endpoint = &bench.endpoint;
    let mut taken: Vec<Id> = std::thread::scope(|scope| {
        let takers = ["v", "w", "x", "y"].map(|worker| {
            scope.spawn(move || {
                let mut taken = Vec::new();
                loop {
                    let jobs = at_once(endpoint.take(worker, 3));
                    if jobs.is_empty() {
                        return taken;
                    }
                    taken.extend(jobs.into_iter().map(|job| Id::clone(&job.record.id)));
                }
            })
        });
        let all = takers.into_iter().flat_map(|taker| taker.join().unwrap());
        all.collect()
    });
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), JOBS);
    endpoint.store.contents().check();
}

#[test]
fn a_step_from_an_old_record_is_not_committed() {
    let mut bench = Bench::new();
    bench.submit("a");
    let old = at_once(bench.endpoint.record("a")).unwrap();
    bench.take(WORKER, 1);
    let cancelled = crate::engine::step::cancel(&old, bench.clock.now()).unwrap();
    let committed = bench
        .endpoint
        .commit(Arc::clone(&old), cancelled, Payload::None);
    assert_eq!(at_once(committed), Err(Conflict));
    assert_eq!(bench.status("a"), Some(JobStatus::InProgress));
    // It does not apply to a new job with the same id and version either.
    at_once(bench.endpoint.shorten("a", Duration::ZERO));
    at_once(bench.endpoint.expire());
    bench.submit("a");
    let cancelled = crate::engine::step::cancel(&old, bench.clock.now()).unwrap();
    let committed = bench.endpoint.commit(old, cancelled, Payload::None);
    assert_eq!(at_once(committed), Err(Conflict));
    bench.endpoint.store.contents().check();
}
