//! A platform that records what happens to every job while it injects faults.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::scripted::{Answer, Recorded, Scripted};
use crate::time_limit::within_a_minute;

/// The expected outcome of a job.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The input of the job.
    pub input: Value,
    /// The expected output.
    pub output: Value,
    /// The expected chunks of the stream, in order.
    pub chunks: Vec<Value>,
}

/// The maximum number of consecutive faults for calls of one kind for one job. It keeps the worker's retry delays well
/// below the time in which the test expects progress.
const LONGEST_STREAK: u8 = 7;

/// The rate of each fault, in percent of the calls to which it applies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The connection breaks before the platform reads the call.
    pub dropped: u8,
    /// The platform accepts the call, and the connection breaks before the response.
    pub unanswered: u8,
    /// The connection breaks in the middle of the response.
    pub torn: u8,
    /// The response is 500, 502 or 503.
    pub failing: u8,
    /// The response is 429 with `Retry-After: 0`.
    pub throttled: u8,
    /// The response is delayed by up to 50 ms.
    pub slow: u8,
    /// A take returns a job that was handed out before. If this is not 0, every take does so once the queue is empty.
    pub again: u8,
    /// The platform has no stop route.
    pub no_stop: bool,
}

impl Faults {
    /// Returns random rates, as for a soak.
    #[must_use]
    pub fn random(random: &mut fastrand::Rng) -> Self {
        let mut percent = |most| random.u8(0..=most);
        Self {
            dropped: percent(10),
            unanswered: percent(10),
            torn: percent(10),
            failing: percent(20),
            throttled: percent(10),
            slow: percent(20),
            // Never 0: a job whose take was cut off by a blackout must be handed out again.
            again: percent(20).max(5),
            no_stop: percent(1) == 1,
        }
    }
}

/// A fault of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Dropped,
    Unanswered,
    Torn,
    Failing,
    Throttled,
    Slow,
}

/// The platform. It shuts down when dropped.
#[derive(Debug)]
pub struct Ledger {
    platform: Scripted,
    books: Arc<Mutex<Books>>,
    settled: watch::Receiver<usize>,
    polled: watch::Receiver<()>,
    idle: watch::Receiver<()>,
}

#[derive(Debug)]
struct Books {
    random: fastrand::Rng,
    faults: Faults,
    jobs: BTreeMap<String, Entry>,
    /// The number of jobs so far.
    submitted: usize,
    /// The types of errors with which a job may end.
    tolerated: Vec<&'static str>,
    queue: VecDeque<String>,
    /// The number of consecutive faults, by kind of call and job.
    streaks: BTreeMap<(String, String), u8>,
    settled: watch::Sender<usize>,
    /// Notified at each poll.
    polled: watch::Sender<()>,
    /// Notified at each heartbeat of a worker without jobs.
    idle: watch::Sender<()>,
    /// Broken guarantees, each as a message.
    violations: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    expected: Expected,
    handed_out: bool,
    /// The last accepted progress.
    progress: Option<i64>,
    chunks: Vec<Value>,
    last_key: Option<String>,
    /// The accepted result, and whether the worker can know that it was accepted.
    settled: Option<(Value, bool)>,
}

impl Ledger {
    /// Starts the platform on a free loopback port with `jobs` in the queue.
    pub async fn start(
        seed: u64,
        faults: Faults,
        jobs: impl IntoIterator<Item = Expected>,
    ) -> Self {
        let (count, settled) = watch::channel(0);
        let (poll, polled) = watch::channel(());
        let (without_jobs, idle) = watch::channel(());
        let books = Arc::new(Mutex::new(Books {
            random: fastrand::Rng::with_seed(seed),
            faults,
            jobs: BTreeMap::new(),
            submitted: 0,
            tolerated: Vec::new(),
            queue: VecDeque::new(),
            streaks: BTreeMap::new(),
            settled: count,
            polled: poll,
            idle: without_jobs,
            violations: Vec::new(),
        }));
        let script = {
            let books = Arc::clone(&books);
            move |request: &Recorded, _: usize| lock(&books).answer(request)
        };
        let ledger = Self {
            platform: Scripted::start_with(false, script).await,
            books,
            settled,
            polled,
            idle,
        };
        for job in jobs {
            ledger.submit(job);
        }
        ledger
    }

    /// Adds a job to the queue.
    pub fn submit(&self, expected: Expected) {
        let mut books = lock(&self.books);
        let id = format!("job-{}", books.submitted);
        books.submitted += 1;
        let entry = Entry {
            expected,
            handed_out: false,
            progress: None,
            chunks: Vec::new(),
            last_key: None,
            settled: None,
        };
        books.jobs.insert(id.clone(), entry);
        books.queue.push_back(id);
    }

    /// Returns the environment variables for a worker with this ID.
    #[must_use]
    pub fn env(&self, worker_id: &str) -> Vec<(&'static str, String)> {
        self.platform.env(worker_id)
    }

    /// Allows jobs to end with an error of one of these types.
    pub fn tolerate(&self, error_types: &[&'static str]) {
        lock(&self.books).tolerated = error_types.to_vec();
    }

    /// Drops the records of all jobs that have a result, and returns how many of them ended with an error. Call it while
    /// the worker has no jobs, after [`assert_sound`](Self::assert_sound).
    pub fn forget_settled(&self) -> usize {
        let mut books = lock(&self.books);
        let failed =
            |job: &Entry| matches!(&job.settled, Some((last, _)) if last.get("error").is_some());
        let count = books.jobs.values().filter(|job| failed(job)).count();
        books.jobs.retain(|_, job| job.settled.is_none());
        books.streaks.clear();
        count
    }

    /// Sets the faults of all later calls.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.books).faults = faults;
    }

    /// If `up` is false, breaks all connections and refuses new ones. If it is true, serves again.
    pub fn set_up(&self, up: bool) {
        if !up {
            self.platform.set_up(false);
        }
        // Responses in transit are lost, so the worker may not know that a result was accepted.
        for (_, known) in lock(&self.books)
            .jobs
            .values_mut()
            .filter_map(|job| job.settled.as_mut())
        {
            *known = false;
        }
        if up {
            self.platform.set_up(true);
        }
    }

    /// Waits until the platform has the results of `jobs` jobs.
    ///
    /// # Panics
    /// Panics if no result arrives within 60 s, and lists the broken guarantees, if any.
    pub async fn until_settled(&self, jobs: usize) {
        let mut settled = self.settled.clone();
        while *settled.borrow_and_update() < jobs {
            let change = tokio::time::timeout(Duration::from_mins(1), settled.changed());
            if change.await.is_err() {
                self.assert_sound();
                panic!("no progress: {} of {jobs} jobs", *self.settled.borrow());
            }
        }
    }

    /// Waits until the worker polls.
    ///
    /// # Panics
    /// Panics if that takes more than a minute.
    pub async fn until_polled(&self) {
        until_notified(&self.polled).await;
    }

    /// Waits until the worker has no jobs, and so has nothing left to post.
    ///
    /// # Panics
    /// Panics if that takes more than a minute.
    pub async fn until_idle(&self) {
        until_notified(&self.idle).await;
    }

    /// Returns how many jobs were handed out, and how many of them have a result.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let books = lock(&self.books);
        let count = |what: fn(&Entry) -> bool| books.jobs.values().filter(|job| what(job)).count();
        (
            count(|job| job.handed_out),
            count(|job| job.settled.is_some()),
        )
    }

    /// Checks that every job that was handed out has its expected outcome, and that no guarantee was broken.
    ///
    /// # Panics
    /// Panics if a check fails, and lists all violations.
    pub fn assert_sound(&self) {
        let books = lock(&self.books);
        let mut violations = books.violations.clone();
        for (id, job) in books.jobs.iter().filter(|(_, job)| job.handed_out) {
            match &job.settled {
                None => violations.push(format!("{id} is lost")),
                Some((last, _)) if tolerates(&books.tolerated, last) => {}
                Some((last, _)) if *last != json!({"output": job.expected.output}) => {
                    violations.push(format!("{id} ended with {last}"));
                }
                Some(_) if job.chunks != job.expected.chunks => {
                    violations.push(format!("{id} has the chunks {:?}", job.chunks));
                }
                Some(_) => {}
            }
        }
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

async fn until_notified(of: &watch::Receiver<()>) {
    let mut of = of.clone();
    of.mark_unchanged();
    let notified = within_a_minute(of.changed()).await;
    notified.expect("the books are open");
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().expect("the ledger did not panic")
}

/// Returns whether a result is an error of one of these types.
fn tolerates(error_types: &[&str], result: &Value) -> bool {
    let report = result["error"].as_str().unwrap_or_default();
    let report: Value = serde_json::from_str(report).unwrap_or_default();
    let error_type = report["error_type"].as_str();
    error_type.is_some_and(|error_type| error_types.contains(&error_type))
}

impl Books {
    /// Returns the fault of this call, or `None` after too many consecutive faults.
    fn fault_of(&mut self, call: &str, request: &Recorded) -> Option<Fault> {
        let fault = self.fault();
        let id = request.headers.get("x-request-id").cloned();
        let key = (call.to_owned(), id.unwrap_or_default());
        let streak = self.streaks.entry(key).or_default();
        if matches!(fault, None | Some(Fault::Slow)) || *streak == LONGEST_STREAK {
            *streak = 0;
            return fault.filter(|fault| *fault == Fault::Slow);
        }
        *streak += 1;
        fault
    }

    fn fault(&mut self) -> Option<Fault> {
        let Faults {
            dropped,
            unanswered,
            torn,
            failing,
            throttled,
            slow,
            ..
        } = self.faults;
        let mut roll = self.random.u8(0..100);
        [
            (dropped, Fault::Dropped),
            (unanswered, Fault::Unanswered),
            (torn, Fault::Torn),
            (failing, Fault::Failing),
            (throttled, Fault::Throttled),
            (slow, Fault::Slow),
        ]
        .into_iter()
        .find_map(|(percent, fault)| {
            let hit = roll < percent;
            roll = roll.saturating_sub(percent);
            hit.then_some(fault)
        })
    }

    fn answer(&mut self, request: &Recorded) -> Answer {
        let call = request.call().to_owned();
        if call == "job-stop" {
            return if self.faults.no_stop {
                Answer::Status(404)
            } else {
                Answer::Hold
            };
        }
        if call.starts_with("job-take") {
            self.polled.send_replace(());
        }
        if call == "ping" && request.param("job_id").is_none() {
            self.idle.send_replace(());
        }
        let fault = self.fault_of(&call, request);
        match fault {
            Some(Fault::Dropped) => return Answer::Drop,
            Some(Fault::Failing) => {
                return Answer::Status([500, 502, 503][self.random.usize(0..3)]);
            }
            Some(Fault::Throttled) => return Answer::RetryAfter(429, 0),
            _ => {}
        }
        let answered = !matches!(fault, Some(Fault::Unanswered | Fault::Torn));
        let answer = match call.as_str() {
            "job-take" | "job-take-batch" => self.take(request, fault),
            "job-done" => self.done(request, answered),
            "job-stream" => self.chunk(request),
            _ => Answer::Status(200),
        };
        match fault {
            Some(Fault::Unanswered) => Answer::Drop,
            Some(Fault::Torn) => Answer::Torn,
            Some(Fault::Slow) => {
                let delay = Duration::from_millis(self.random.u64(1..50));
                Answer::After(delay, Box::new(answer))
            }
            _ => answer,
        }
    }

    fn take(&mut self, request: &Recorded, fault: Option<Fault>) -> Answer {
        // If the response to a take is lost, its jobs stay in the queue.
        if matches!(fault, Some(Fault::Unanswered | Fault::Torn)) {
            return Answer::Status(204);
        }
        let batch = request.param("batch_size");
        let wanted = batch.map_or(1, |size| size.parse().expect("batch_size is a number"));
        let mut ids: Vec<String> = Vec::new();
        let again = match self.faults.again {
            again if again > 0 && self.queue.is_empty() => 100,
            again => again,
        };
        if self.random.u8(0..100) < again {
            let open = |(_, job): &(&String, &Entry)| job.handed_out && job.settled.is_none();
            let open: Vec<&String> = self.jobs.iter().filter(open).map(|(id, _)| id).collect();
            ids.extend(self.random.choice(open).cloned());
        }
        while ids.len() < wanted
            && let Some(id) = self.queue.pop_front()
        {
            ids.push(id);
        }
        let jobs: Vec<Value> = ids
            .into_iter()
            .map(|id| {
                let entry = self.jobs.get_mut(&id).expect("queued jobs are known");
                entry.handed_out = true;
                json!({"id": id, "input": entry.expected.input})
            })
            .collect();
        match (jobs.len(), batch) {
            (0, _) => Answer::Status(204),
            (_, None) => Answer::Json(200, jobs[0].clone()),
            (_, Some(_)) => Answer::Json(200, Value::Array(jobs)),
        }
    }

    fn done(&mut self, request: &Recorded, answered: bool) -> Answer {
        let id = &request.headers["x-request-id"];
        let body = request.json();
        let Some(job) = self.jobs.get_mut(id) else {
            return self.violation(format!("unknown job {id}"));
        };
        let in_progress = body["status"] == "IN_PROGRESS";
        match &mut job.settled {
            // A failed job may be retried, so a worker that gets it again runs it again.
            Some((last, _)) if tolerates(&self.tolerated, last) => Answer::Status(200),
            Some(_) if in_progress => self.violation(format!("{id}: progress after the result")),
            Some((_, true)) => self.violation(format!("{id}: a second result")),
            Some((last, known)) => {
                if *last == body {
                    *known = answered;
                    return Answer::Status(200);
                }
                self.violation(format!("{id}: a different result, {body}"))
            }
            None if in_progress => {
                let progress = body["output"].as_i64();
                if progress < job.progress {
                    return self.violation(format!("{id}: progress {progress:?} decreases"));
                }
                job.progress = progress;
                Answer::Status(200)
            }
            None => {
                job.settled = Some((body, answered));
                self.settled.send_modify(|count| *count += 1);
                Answer::Status(200)
            }
        }
    }

    fn chunk(&mut self, request: &Recorded) -> Answer {
        let id = &request.headers["x-request-id"];
        let key = request.headers.get("idempotency-key").cloned();
        let Some(job) = self.jobs.get_mut(id) else {
            return self.violation(format!("unknown job {id}"));
        };
        if job.settled.is_some() {
            return self.violation(format!("{id}: a chunk after the result"));
        }
        if job.last_key != key {
            job.last_key = key;
            job.chunks.push(request.json()["output"].clone());
        }
        Answer::Status(200)
    }

    fn violation(&mut self, what: String) -> Answer {
        self.violations.push(what);
        Answer::Status(409)
    }
}
