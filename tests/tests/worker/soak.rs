//! Workers under random faults of all kinds at once: the network, a shortage of threads, a full disk, freezes, signals and
//! kills.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use podwork_tests::{Expected, Faults, Ledger, process_status, shared_library, soak_options};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Starts no thread while the file `NO_THREADS` exists, and writes to no regular file while `DISK_FULL` exists.
const MACHINE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int now(const char *fault) {
    const char *path = getenv(fault);
    return path && access(path, F_OK) == 0;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    return now("NO_THREADS") ? EAGAIN : create(thread, attributes, run, argument);
}

ssize_t write(int file, const void *bytes, size_t length) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    struct stat about;
    if (now("DISK_FULL") && fstat(file, &about) == 0 && S_ISREG(about.st_mode)) {
        errno = ENOSPC;
        return -1;
    }
    return real(file, bytes, length);
}
"#;

/// The time without a further result after which a worker counts as hung, also for its exit.
const HUNG: Duration = Duration::from_mins(1);
/// The number of jobs in a round, between two checks.
const JOBS: usize = 500;

/// The worker of a soak.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Jobs on blocking threads that use the disk. The worker is stopped and killed, and starts again.
    Store,
    /// Streams. The worker runs from the beginning to the end, so that leaks add up. Nobody reads its log.
    Stream,
}

/// A worker, its machine and its platform.
struct Soak {
    kind: Kind,
    random: fastrand::Rng,
    ledger: Ledger,
    worker: Child,
    folder: TempDir,
    library: PathBuf,
    starts: usize,
    kills: usize,
    freezes: usize,
}

impl Soak {
    async fn start(kind: Kind, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = shared_library(folder.path(), "machine.so", MACHINE);
        let ledger = Ledger::start(seed, Faults::default(), []).await;
        ledger.tolerate(&["no_thread", "disk"]);
        let worker = start(kind, folder.path(), &library, &ledger);
        // Without threads, a worker does not start.
        ledger.until_polled().await;
        Self {
            kind,
            random: fastrand::Rng::with_seed(seed),
            ledger,
            worker,
            folder,
            library,
            starts: 1,
            kills: 0,
            freezes: 0,
        }
    }

    fn job(&mut self) -> Expected {
        let number = self.random.u32(..);
        match self.kind {
            Kind::Store => Expected {
                input: json!(number),
                output: json!(number),
                chunks: Vec::new(),
            },
            Kind::Stream => {
                let chunks: Vec<Value> = (0..number % 7).map(Value::from).collect();
                Expected {
                    input: json!({ "chunks": chunks }),
                    output: json!(chunks),
                    chunks,
                }
            }
        }
    }

    /// Turns a fault of the machine on or off.
    fn machine(&self, fault: &str, on: bool) {
        let path = self.folder.path().join(fault);
        if on {
            std::fs::write(path, "").unwrap();
        } else if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// Causes a random fault, or ends one.
    async fn fault(&mut self) {
        match self.random.u8(0..100) {
            0..40 => {
                let faults = Faults::random(&mut self.random);
                self.ledger.set_faults(faults);
            }
            40..50 => self.ledger.set_up(false),
            50..70 => self.ledger.set_up(true),
            70..90 => {
                let (fault, on) = (self.random.bool(), self.random.bool());
                self.machine(if fault { "no_threads" } else { "disk_full" }, on);
            }
            90..97 => {
                self.freezes += 1;
                self.signal("-STOP").await;
                // The length of the freeze is the fault.
                tokio::time::sleep(Duration::from_millis(self.random.u64(100..2_000))).await;
                self.signal("-CONT").await;
            }
            _ if matches!(self.kind, Kind::Store) => self.restart().await,
            _ => {}
        }
    }

    /// Ends the worker by a request to stop, which it must follow without losing a job, or by force.
    async fn restart(&mut self) {
        // A worker whose platform is away delivers until the grace period ends, and one without threads cannot start.
        self.calm();
        match self.random.u8(0..3) {
            0 => {
                self.kills += 1;
                self.worker.kill().await.unwrap();
            }
            signal => {
                let signal = ["-TERM", "-INT"][usize::from(signal) - 1];
                self.signal(signal).await;
                // A repetition, as from a terminal or `timeout`.
                self.signal(signal).await;
                let ended = tokio::time::timeout(HUNG, self.worker.wait()).await;
                let ended = ended.expect("the worker stops").unwrap();
                assert!(ended.success(), "{signal}: {ended}");
            }
        }
        self.starts += 1;
        self.worker = start(self.kind, self.folder.path(), &self.library, &self.ledger);
        self.ledger.until_polled().await;
    }

    async fn signal(&self, signal: &str) {
        // A worker that has already followed the first of two requests is gone.
        if let Some(id) = self.worker.id() {
            let mut kill = Command::new("kill");
            kill.args([signal, &id.to_string()]).stderr(Stdio::null());
            kill.status().await.unwrap();
        }
    }

    /// Ends all faults.
    fn calm(&self) {
        self.machine("no_threads", false);
        self.machine("disk_full", false);
        // Hands out jobs again whose worker was killed.
        self.ledger.set_faults(Faults {
            again: 5,
            ..Faults::default()
        });
        self.ledger.set_up(true);
    }

    /// Runs a round of jobs under random faults, and checks that each that was handed out has its result. Returns the
    /// memory of the worker after it.
    async fn round(&mut self, settled: usize) -> usize {
        for _ in 0..JOBS {
            let job = self.job();
            self.ledger.submit(job);
        }
        while self.ledger.counts().1 < JOBS * 9 / 10 {
            self.fault().await;
            // Gives the fault some time to have an effect.
            tokio::time::sleep(Duration::from_millis(self.random.u64(10..500))).await;
            assert!(
                self.worker.try_wait().unwrap().is_none(),
                "{:?} runs",
                self.kind
            );
        }
        self.calm();
        self.ledger.until_settled(settled + JOBS).await;
        self.ledger.until_idle().await;
        self.ledger.assert_sound();
        let (handed_out, _) = self.ledger.counts();
        let failed = self.ledger.forget_settled();
        let (memory, threads, files) = usage(self.worker.id().unwrap());
        println!(
            "{:?}: {handed_out} jobs handed out and settled, {failed} of them failed for lack of threads or disk; \
             {} starts, {} kills and {} freezes so far; {memory} kB, {threads} threads, {files} files",
            self.kind, self.starts, self.kills, self.freezes
        );
        assert!(memory < 65_536 && threads < 64 && files < 64, "bounded");
        memory
    }
}

fn start(kind: Kind, folder: &Path, library: &Path, ledger: &Ledger) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwork-test-worker"));
    match kind {
        Kind::Store => {
            let log = std::fs::File::create(folder.join("log")).unwrap();
            command.arg("store").stdout(log);
        }
        Kind::Stream => {
            command.args(["stream", "8"]).stdout(Stdio::piped());
        }
    }
    command
        .current_dir(folder)
        .env("TMPDIR", folder)
        .env("LD_PRELOAD", library)
        .env("NO_THREADS", folder.join("no_threads"))
        .env("DISK_FULL", folder.join("disk_full"))
        .env("RUNPOD_SKIP_GPU_CHECK", "true")
        .env_remove("CARGO_MANIFEST_DIR")
        .envs(ledger.env("w"))
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Returns the resident memory of a process in kB, and the number of its threads and of its open files.
fn usage(id: u32) -> (usize, usize, usize) {
    let files = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
    (
        process_status(id, "VmRSS"),
        process_status(id, "Threads"),
        files,
    )
}

/// Runs rounds of jobs until the time is over. Returns the memory after each.
async fn soak(kind: Kind, seed: u64, time: Duration) -> Vec<usize> {
    let began = Instant::now();
    let mut soak = Soak::start(kind, seed).await;
    let mut memory = Vec::new();
    while began.elapsed() < time {
        memory.push(soak.round(memory.len() * JOBS).await);
    }
    soak.signal("-TERM").await;
    let ended = tokio::time::timeout(HUNG, soak.worker.wait()).await;
    let ended = ended.expect("the worker stops").unwrap();
    assert!(ended.success(), "{ended}");
    memory
}

/// Runs for `PODWORK_SOAK_SECONDS` (default: 60). `PODWORK_SOAK_SEED` repeats the choices of an earlier run, but their
/// effect still depends on timing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs for PODWORK_SOAK_SECONDS; .ci/run runs it"]
async fn no_job_is_lost_under_all_faults_at_once() {
    let (time, seed) = soak_options();
    let (_, memory) = tokio::join!(
        soak(Kind::Store, seed, time),
        soak(Kind::Stream, seed.wrapping_add(1), time)
    );
    // The memory of a worker that runs all the time does not grow. The first rounds fill its buffers.
    if let [first, .., last] = memory.chunks(memory.len().div_ceil(4)).collect::<Vec<_>>()[..] {
        let most = |rounds: &[usize]| rounds.iter().copied().max().unwrap_or_default();
        assert!(most(last) < most(first) * 3 / 2, "{memory:?}");
    }
}
