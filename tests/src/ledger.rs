//! A platform that keeps books of every job, and breaks things on purpose while it does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::scripted::{Answer, Recorded, Scripted};

/// What a job is to come to.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Its input.
    pub input: Value,
    /// Its output.
    pub output: Value,
    /// The chunks of its stream, in order.
    pub chunks: Vec<Value>,
}

/// Most times in a row that the calls of one kind for one job break: the pauses between the worker's tries then stay well
/// below the time in which something has to move.
const LONGEST_STREAK: u8 = 7;

/// How often things break, each in percent of the calls it can befall.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The connection breaks before the call is looked at.
    pub dropped: u8,
    /// The call is accepted, and the connection breaks before its answer.
    pub unanswered: u8,
    /// The answer breaks in the middle.
    pub torn: u8,
    /// 500, 502, 503.
    pub failing: u8,
    /// 429 with `Retry-After: 0`.
    pub throttled: u8,
    /// The answer comes up to 50 ms later.
    pub slow: u8,
    /// A take brings a job again that was handed out already; once the queue is empty, unless this is 0, each does.
    pub again: u8,
    /// There is no stop route.
    pub no_stop: bool,
}

/// What befalls one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Dropped,
    Unanswered,
    Torn,
    Failing,
    Throttled,
    Slow,
}

/// The platform. It ends when it is dropped.
#[derive(Debug)]
pub struct Ledger {
    platform: Scripted,
    books: Arc<Mutex<Books>>,
    settled: watch::Receiver<usize>,
}

#[derive(Debug)]
struct Books {
    random: fastrand::Rng,
    faults: Faults,
    jobs: BTreeMap<String, Entry>,
    queue: VecDeque<String>,
    /// How often in a row each call has broken, by its kind and job.
    streaks: BTreeMap<(String, String), u8>,
    settled: watch::Sender<usize>,
    /// What must not be.
    violations: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    expected: Expected,
    handed_out: bool,
    /// The last progress accepted.
    progress: Option<i64>,
    chunks: Vec<Value>,
    last_key: Option<String>,
    /// The final that was accepted, and whether its worker could know.
    settled: Option<(Value, bool)>,
}

impl Ledger {
    /// Starts on a free loopback port with these jobs in the queue.
    pub async fn start(
        seed: u64,
        faults: Faults,
        jobs: impl IntoIterator<Item = Expected>,
    ) -> Self {
        let (count, settled) = watch::channel(0);
        let books = Arc::new(Mutex::new(Books {
            random: fastrand::Rng::with_seed(seed),
            faults,
            jobs: BTreeMap::new(),
            queue: VecDeque::new(),
            streaks: BTreeMap::new(),
            settled: count,
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
        };
        for job in jobs {
            ledger.submit(job);
        }
        ledger
    }

    /// Queues one more job.
    pub fn submit(&self, expected: Expected) {
        let mut books = lock(&self.books);
        let id = format!("job-{}", books.jobs.len());
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

    /// The variables that a worker of this id needs.
    #[must_use]
    pub fn env(&self, worker_id: &str) -> Vec<(&'static str, String)> {
        self.platform.env(worker_id)
    }

    /// What breaks from now on.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.books).faults = faults;
    }

    /// Breaks all connections and refuses new ones, or serves again.
    pub fn set_up(&self, up: bool) {
        self.platform.set_up(up);
        // Answers on their way to finals that were accepted are lost.
        for (_, known) in lock(&self.books)
            .jobs
            .values_mut()
            .filter_map(|job| job.settled.as_mut())
        {
            *known = false;
        }
    }

    /// Waits until this many jobs have their final.
    ///
    /// # Panics
    /// No job gets its final within 60 s, or what must not be has been.
    pub async fn until_settled(&self, jobs: usize) {
        let mut settled = self.settled.clone();
        while *settled.borrow_and_update() < jobs {
            let change = tokio::time::timeout(Duration::from_mins(1), settled.changed());
            if change.await.is_err() {
                self.assert_sound();
                panic!("nothing moves: {} of {jobs} jobs", *self.settled.borrow());
            }
        }
    }

    /// How many jobs were handed out, and how many of them have their final.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let books = lock(&self.books);
        let count = |what: fn(&Entry) -> bool| books.jobs.values().filter(|job| what(job)).count();
        (
            count(|job| job.handed_out),
            count(|job| job.settled.is_some()),
        )
    }

    /// Whether every job that was handed out came to what it should, and nothing was that must not be.
    ///
    /// # Panics
    /// That is not so.
    pub fn assert_sound(&self) {
        let books = lock(&self.books);
        let mut violations = books.violations.clone();
        for (id, job) in books.jobs.iter().filter(|(_, job)| job.handed_out) {
            match &job.settled {
                None => violations.push(format!("{id} is lost")),
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

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().expect("the books are kept without a panic")
}

impl Books {
    /// What befalls this call; nothing, once enough befell it before.
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
        // A take whose answer does not arrive leaves its jobs in the queue.
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
                let entry = self.jobs.get_mut(&id).expect("what is queued is known");
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
            return self.violation(format!("{id} is no job"));
        };
        let in_progress = body["status"] == "IN_PROGRESS";
        match &mut job.settled {
            Some(_) if in_progress => self.violation(format!("{id}: progress after the final")),
            Some((_, true)) => self.violation(format!("{id}: a second final")),
            Some((last, known)) => {
                if *last == body {
                    *known = answered;
                    return Answer::Status(200);
                }
                self.violation(format!("{id}: another final, {body}"))
            }
            None if in_progress => {
                let progress = body["output"].as_i64();
                if progress < job.progress {
                    return self.violation(format!("{id}: progress {progress:?} goes back"));
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
            return self.violation(format!("{id} is no job"));
        };
        if job.settled.is_some() {
            return self.violation(format!("{id}: a chunk after the final"));
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
