//! Whatever is asked of an endpoint, in whatever order: what it keeps stays in step.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::*;
use crate::engine::Job;

const WORKERS: [&str; 3] = ["v", "w", "x"];

#[derive(Debug, Clone)]
enum Ask {
    Submit,
    Open(usize),
    Close(usize),
    Take(usize, usize),
    /// The answer of the last take of this worker did not arrive.
    GiveBack(usize),
    Result {
        worker: usize,
        job: Index,
        failed: bool,
        stop_pod: bool,
    },
    Progress(usize, Index),
    Chunk(usize, Index),
    /// With all of its jobs, or none.
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
    now: Instant,
    /// All ids ever.
    ids: Vec<Id>,
    last_taken: [Vec<String>; WORKERS.len()],
}

impl Bench {
    fn new() -> Self {
        Self {
            endpoint: Endpoint::new(Arc::default()),
            now: Instant::now(),
            ids: Vec::new(),
            last_taken: Default::default(),
        }
    }

    fn id(&self, index: Index) -> Id {
        // Before the first is submitted, one that never was.
        let known = (!self.ids.is_empty()).then(|| index.get(&self.ids));
        known.map_or_else(|| "none".into(), Id::clone)
    }

    // That a call is refused is an outcome like any other: what counts is what is kept.
    fn apply(&mut self, ask: Ask) {
        let now = self.now;
        let endpoint = &mut self.endpoint;
        match ask {
            Ask::Submit => {
                let id: Id = format!("job-{}", self.ids.len()).into();
                self.ids.push(Id::clone(&id));
                let submission = Submission {
                    id,
                    input: RawValue::from_string("1".to_owned()).unwrap(),
                    extra: Map::new(),
                    execution_timeout: Duration::from_mins(2),
                    ttl: Duration::from_mins(20),
                    retention: Duration::from_mins(3),
                    webhook: None,
                };
                endpoint.submit(submission, now).unwrap();
            }
            Ask::Open(worker) => endpoint.poll_opened(WORKERS[worker], true, now).unwrap(),
            Ask::Close(worker) => endpoint.poll_closed(WORKERS[worker], now),
            Ask::Take(worker, wanted) => {
                // As over HTTP: who takes has a poll open.
                endpoint.poll_opened(WORKERS[worker], true, now).unwrap();
                let taken = endpoint.take(WORKERS[worker], wanted, now);
                self.last_taken[worker] = taken.into_iter().map(|job| job.id).collect();
                endpoint.poll_closed(WORKERS[worker], now);
            }
            Ask::GiveBack(worker) => {
                let ids = std::mem::take(&mut self.last_taken[worker]);
                endpoint.give_back(WORKERS[worker], &ids);
            }
            Ask::Result {
                worker,
                job,
                failed,
                stop_pod,
            } => {
                let post = if failed {
                    json!({"error": "no"})
                } else {
                    json!({"output": 1})
                };
                let mut post: podwork_protocol::worker::Post =
                    serde_json::from_str(&post.to_string()).unwrap();
                post.stop_pod = stop_pod;
                let id = self.id(job);
                let _ = self.endpoint.post(WORKERS[worker], &id, post, now);
            }
            Ask::Progress(worker, job) => {
                let post = r#"{"status": "IN_PROGRESS", "output": 5}"#;
                let id = self.id(job);
                let post = serde_json::from_str(post).unwrap();
                let _ = self.endpoint.post(WORKERS[worker], &id, post, now);
            }
            Ask::Chunk(worker, job) => {
                let id = self.id(job);
                let chunk = RawValue::from_string("7".to_owned()).unwrap();
                let _ = self.endpoint.chunk(WORKERS[worker], &id, chunk, None, now);
            }
            Ask::Ping(worker, all) => {
                let known = endpoint.workers.get_mut(WORKERS[worker]);
                let jobs = known.filter(|_| all).map(|worker| worker.jobs.clone());
                let jobs = jobs.unwrap_or_default();
                endpoint.ping(WORKERS[worker], jobs.iter().map(|id| &**id), false, now);
            }
            Ask::Stops(worker) => {
                let ids = endpoint.stops(WORKERS[worker]);
                assert!(
                    ids.iter()
                        .all(|id| endpoint.held_by(WORKERS[worker], id).is_none())
                );
            }
            Ask::Stream(job) => {
                let id = self.id(job);
                let _ = self.endpoint.stream(&id, false);
            }
            Ask::Cancel(job) => {
                let id = self.id(job);
                let _ = self.endpoint.cancel(&id, now);
            }
            Ask::Retry(job) => {
                let id = self.id(job);
                let _ = self.endpoint.retry(&id, now);
            }
            Ask::Shorten(job, ms) => {
                let id = self.id(job);
                self.endpoint.shorten(&id, Duration::from_millis(ms), now);
            }
            Ask::Purge => {
                endpoint.purge();
                assert_eq!(endpoint.store.waiting(), 0);
            }
            Ask::Pass(ms) => {
                self.now += Duration::from_millis(ms);
                self.endpoint.expire(self.now);
            }
        }
    }

    /// What must be so at all times.
    fn check(&mut self) {
        let jobs: Vec<&Job> = self
            .ids
            .iter()
            .filter_map(|id| self.endpoint.store.get(id))
            .collect();
        let with = |status| jobs.iter().filter(|job| job.status == status).count();
        assert_eq!(self.endpoint.store.len(), jobs.len());
        assert_eq!(self.endpoint.store.waiting(), with(JobStatus::InQueue));
        let running = with(JobStatus::InProgress);
        assert_eq!(self.endpoint.counts.in_progress, running as u64);
        for job in &jobs {
            let timer = Timer::Job(Id::clone(&job.id));
            assert_eq!(
                self.endpoint.timers.get(&timer),
                Some(job.deadline()),
                "{job:?}"
            );
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
            let Some(worker) = self.endpoint.workers.get_mut(id) else {
                continue;
            };
            at_workers += worker.jobs.len();
            // A worker that may be gone is found to be so.
            let watched = self
                .endpoint
                .timers
                .get(&Timer::Worker(id.into()))
                .is_some();
            assert_eq!(watched, worker.polls == 0, "{worker:?}");
        }
        assert_eq!(
            at_workers, running,
            "every running job is at a worker that is watched"
        );
        for (worker, job) in held {
            assert!(
                self.endpoint
                    .workers
                    .get_mut(&worker)
                    .unwrap()
                    .jobs
                    .contains(&job)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn jobs_queue_workers_and_timers_stay_in_step(asks in prop::collection::vec(ask(), 1..120)) {
        let mut bench = Bench::new();
        for ask in asks {
            bench.apply(ask);
            bench.check();
        }
        // Time alone empties it.
        for _ in 0..50 {
            bench.now += Duration::from_mins(30);
            bench.endpoint.expire(bench.now);
        }
        assert_eq!(bench.endpoint.store.len(), 0);
    }
}
