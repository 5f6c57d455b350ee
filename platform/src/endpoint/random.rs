//! A property test: after any calls in any order, the records and indexes of an endpoint are consistent.

use std::time::Duration;

use bytes::Bytes;
use podwork_protocol::JobStatus;
use proptest::prelude::*;
use proptest::sample::Index;

use super::tests::at_once;
use super::*;
use crate::clock::Clock;
use crate::engine::Submission;
use crate::store::Due;
use crate::waiters::Waiters;

const WORKERS: [&str; 3] = ["v", "w", "x"];

#[derive(Debug, Clone)]
enum Ask {
    Submit,
    Open(usize),
    Close(usize),
    Take(usize, usize),
    /// The response of this worker's last take did not arrive.
    GiveBack(usize),
    Result {
        worker: usize,
        job: Index,
        failed: bool,
        stop_pod: bool,
    },
    Progress(usize, Index),
    Chunk(usize, Index),
    /// A heartbeat that lists all jobs of the worker, or none.
    Ping(usize, bool),
    Stops(usize),
    Stream(Index),
    Cancel(Index),
    Retry(Index),
    Shorten(Index, u64),
    Purge,
    Pass(u64),
}

fn ask() -> impl Strategy<Value = Ask> {
    let worker = || 0..WORKERS.len();
    let job = any::<Index>;
    prop_oneof![
        6 => Just(Ask::Submit),
        2 => worker().prop_map(Ask::Open),
        2 => worker().prop_map(Ask::Close),
        6 => (worker(), 1..4_usize).prop_map(|(worker, wanted)| Ask::Take(worker, wanted)),
        1 => worker().prop_map(Ask::GiveBack),
        4 => (worker(), job(), any::<bool>(), prop::bool::weighted(0.1)).prop_map(
            |(worker, job, failed, stop_pod)| Ask::Result { worker, job, failed, stop_pod }
        ),
        1 => (worker(), job()).prop_map(|(worker, job)| Ask::Progress(worker, job)),
        1 => (worker(), job()).prop_map(|(worker, job)| Ask::Chunk(worker, job)),
        3 => (worker(), any::<bool>()).prop_map(|(worker, all)| Ask::Ping(worker, all)),
        1 => worker().prop_map(Ask::Stops),
        1 => job().prop_map(Ask::Stream),
        2 => job().prop_map(Ask::Cancel),
        2 => job().prop_map(Ask::Retry),
        1 => (job(), 0..100_000_u64).prop_map(|(job, ms)| Ask::Shorten(job, ms)),
        1 => Just(Ask::Purge),
        4 => prop_oneof![0..5000_u64, 0..90_000_u64, 0..900_000_u64].prop_map(Ask::Pass),
    ]
}

struct Bench {
    endpoint: Endpoint,
    clock: Clock,
    /// All job ids submitted so far.
    ids: Vec<Id>,
    last_taken: [Vec<Id>; WORKERS.len()],
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::at_rest();
        let store = Memory::new(clock.clone(), Arc::<Waiters>::default());
        Self {
            endpoint: Endpoint::new(Arc::default(), store),
            clock,
            ids: Vec::new(),
            last_taken: Default::default(),
        }
    }

    fn id(&self, index: Index) -> Id {
        // Before the first submission, an id that does not exist.
        let known = (!self.ids.is_empty()).then(|| index.get(&self.ids));
        known.map_or_else(|| "none".into(), Id::clone)
    }

    // A refusal is a valid outcome: only the stored state is checked.
    async fn apply(&mut self, ask: Ask) {
        let endpoint = &self.endpoint;
        match ask {
            Ask::Submit => {
                let n = self.ids.len();
                let id: Id = format!("job-{n}").into();
                self.ids.push(Id::clone(&id));
                let submission = Submission {
                    id,
                    input: "1".into(),
                    extra: Bytes::new(),
                    execution_timeout: Duration::from_mins(2),
                    ttl: Duration::from_mins(20),
                    retention: Duration::from_mins(3),
                    webhook: n.is_multiple_of(3).then(|| "http://h/".to_owned()),
                };
                endpoint.submit(submission).await.unwrap();
            }
            Ask::Open(worker) => endpoint.poll_opened(WORKERS[worker], true).await.unwrap(),
            Ask::Close(worker) => endpoint.poll_closed(WORKERS[worker]).await,
            Ask::Take(worker, wanted) => {
                // As over HTTP, the worker has an open poll during a take.
                endpoint.poll_opened(WORKERS[worker], true).await.unwrap();
                let taken = endpoint.take(WORKERS[worker], wanted).await;
                let ids = taken.iter().map(|job| Id::clone(&job.record.id));
                self.last_taken[worker] = ids.collect();
                endpoint.poll_closed(WORKERS[worker]).await;
            }
            Ask::GiveBack(worker) => {
                let ids = std::mem::take(&mut self.last_taken[worker]);
                endpoint.give_back(WORKERS[worker], &ids).await;
            }
            Ask::Result {
                worker,
                job,
                failed,
                stop_pod,
            } => {
                let result = NewResult {
                    is_progress: false,
                    output: (!failed).then(|| "1".into()),
                    error: failed.then(|| "\"no\"".into()),
                    stop_pod,
                };
                let _ = endpoint.post(WORKERS[worker], &self.id(job), result).await;
            }
            Ask::Progress(worker, job) => {
                let result = NewResult {
                    is_progress: true,
                    output: Some("5".into()),
                    error: None,
                    stop_pod: false,
                };
                let _ = endpoint.post(WORKERS[worker], &self.id(job), result).await;
            }
            Ask::Chunk(worker, job) => {
                let id = self.id(job);
                let _ = endpoint.chunk(WORKERS[worker], &id, "7".into(), None).await;
            }
            Ask::Ping(worker, all) => {
                let held = endpoint.store.held(WORKERS[worker]).await;
                let named: Vec<&str> = held.iter().filter(|_| all).map(|id| &**id).collect();
                endpoint.ping(WORKERS[worker], &named, false).await;
            }
            Ask::Stops(worker) => {
                for id in endpoint.stops(WORKERS[worker]).await {
                    let job = endpoint.record(&id).await;
                    assert!(!job.is_ok_and(|job| job.is_held_by(WORKERS[worker])));
                }
            }
            Ask::Stream(job) => {
                if let Ok(Some(answer)) = endpoint.unread(&self.id(job), false).await {
                    endpoint.mark_read(&answer).await;
                }
            }
            Ask::Cancel(job) => {
                let _ = endpoint.cancel(&self.id(job)).await;
            }
            Ask::Retry(job) => {
                let _ = endpoint.retry(&self.id(job)).await;
            }
            Ask::Shorten(job, ms) => {
                let ttl = Duration::from_millis(ms);
                endpoint.shorten(&self.id(job), ttl).await;
            }
            Ask::Purge => {
                endpoint.purge().await;
                assert_eq!(endpoint.store.counts().await.1.in_queue, 0);
            }
            Ask::Pass(ms) => {
                self.clock.advance(Duration::from_millis(ms));
                endpoint.expire().await;
            }
        }
    }

    /// Asserts the invariants.
    async fn check(&mut self) {
        let contents = self.endpoint.store.contents();
        contents.check();
        let mut jobs = Vec::new();
        for id in &self.ids {
            jobs.extend(self.endpoint.record(id).await.ok());
        }
        let with = |status| jobs.iter().filter(|job| job.status == status).count();
        let (kept, counts) = self.endpoint.store.counts().await;
        assert_eq!(kept, jobs.len());
        assert_eq!(counts.in_queue, with(JobStatus::InQueue) as u64);
        let running = with(JobStatus::InProgress);
        assert_eq!(counts.in_progress, running as u64);
        for job in &jobs {
            let due = (job.due(), Due::Job(Id::clone(&job.id)));
            assert!(contents.due.contains(&due), "{job:?}");
            assert_eq!(job.ended.is_some(), job.status.is_final());
            assert_eq!(
                job.taken.is_some() && job.ended.is_none(),
                job.status == JobStatus::InProgress
            );
        }
        let held: Vec<(Id, Id)> = jobs
            .iter()
            .filter(|job| job.status == JobStatus::InProgress)
            .map(|job| (Id::clone(job.worker.as_ref().unwrap()), Id::clone(&job.id)))
            .collect();
        let mut at_workers = 0;
        for id in WORKERS {
            let Some(known) = self.endpoint.store.worker(id).await else {
                continue;
            };
            at_workers += known.jobs;
            // A worker without an open poll has a deadline at which it is lost.
            let due = Due::Worker(id.into());
            let watched = contents.due.iter().any(|(_, watched)| *watched == due);
            assert_eq!(watched, known.worker.polls == 0, "{known:?}");
        }
        assert_eq!(
            at_workers, running,
            "every running job is held by a known worker"
        );
        for (worker, job) in held {
            let at = self.endpoint.store.held(&worker).await;
            assert!(at.contains(&job));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn jobs_queue_workers_and_timers_stay_in_step(asks in prop::collection::vec(ask(), 1..120)) {
        let mut bench = Bench::new();
        for ask in asks {
            at_once(bench.apply(ask));
            at_once(bench.check());
        }
        // As time passes, all jobs expire.
        for _ in 0..50 {
            bench.clock.advance(Duration::from_mins(30));
            at_once(bench.endpoint.expire());
        }
        assert_eq!(at_once(bench.endpoint.store.counts()).0, 0);
    }
}
