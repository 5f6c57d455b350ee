//! A worker whose first start is slow and whose later starts are fast, because it caches what it computes on a network
//! volume. Run it with `cargo run -p sieve`, or with a folder in place of the volume:
//! `VOLUME=/var/tmp cargo run -p sieve`. Then remove `/tmp/sieve-cache`, to simulate a new container, and run it again:
//! the cache is restored from the volume.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use podwork::cache::VolumeCache;
use podwork::{ExitCode, Worker, handler};

/// The end of the table: all its primes are below this number.
const LIMIT: usize = 20_000_000;

/// A table of primes. It stands in for the cache of a model compiler.
struct Primes(Vec<u8>);

impl Primes {
    /// Reads the table, or computes and writes it if it does not exist yet.
    fn load(folder: &Path) -> io::Result<Self> {
        let file = folder.join("primes.bin");
        if let Ok(table) = fs::read(&file) {
            return Ok(Self(table));
        }
        let table = sieve(LIMIT);
        fs::create_dir_all(folder)?;
        fs::write(file, &table)?;
        Ok(Self(table))
    }
}

/// Returns 1 for each number that is prime, and 0 for the others.
fn sieve(limit: usize) -> Vec<u8> {
    let mut table = vec![1; limit];
    table[..2].fill(0);
    let mut number = 2;
    while number * number < limit {
        if table[number] == 1 {
            for multiple in (number * number..limit).step_by(number) {
                table[multiple] = 0;
            }
        }
        number += 1;
    }
    table
}

#[handler]
fn prime(which: usize, primes: &Primes) -> Option<usize> {
    let all = primes.0.iter().enumerate();
    let mut primes = all.filter(|(_, is_prime)| **is_prime == 1);
    primes.nth(which.checked_sub(1)?).map(|(number, _)| number)
}

/// Returns the cache. On the platform, the default volume and name are used.
fn cache(folder: &Path) -> VolumeCache {
    let cache = VolumeCache::new([folder]);
    match std::env::var_os("VOLUME") {
        Some(volume) => cache.volume(volume).name("sieve"),
        None => cache,
    }
}

fn main() -> ExitCode {
    // The cached folder is on the local disk; the cache copies it to the volume.
    let folder: PathBuf = std::env::temp_dir().join("sieve-cache");
    Worker::new::<prime>()
        .cache(cache(&folder))
        .setup(move || Primes::load(&folder))
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::testing::{TestJob, TestWorker};
    use serde_json::json;

    #[tokio::test]
    async fn finds_primes() {
        let job = TestJob::new(json!(5)).state(Primes(sieve(100)));
        assert_eq!(job.run::<prime>().await.result.unwrap(), json!(11));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_job_goes_through_a_whole_worker() {
        let home = tempfile::tempdir().unwrap();
        let volume = tempfile::tempdir().unwrap();
        let folder = home.path().join("cache");
        // The second worker is warm: it has only the data on the volume.
        for table in [Some(sieve(100)), None] {
            if let Some(table) = table {
                fs::create_dir(&folder).unwrap();
                fs::write(folder.join("primes.bin"), table).unwrap();
            } else {
                fs::remove_dir_all(&folder).unwrap();
            }
            let cache = VolumeCache::new([&folder])
                .volume(volume.path())
                .name("sieve");
            let folder = folder.clone();
            let worker = Worker::new::<prime>().cache(cache);
            let worker = worker.setup(move || fs::read(folder.join("primes.bin")).map(Primes));
            let worker = TestWorker::start(worker).await.unwrap();
            let job = worker.run(json!(25)).await.unwrap();
            assert_eq!(job.result.unwrap(), json!(97));
            worker.stop().await.unwrap();
        }
    }
}
