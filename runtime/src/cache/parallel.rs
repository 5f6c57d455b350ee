//! File I/O on several threads.
//!
//! Uses scoped threads instead of rayon, for three reasons. The tasks wait for disks, so a pool with one thread per
//! core is too small. Each thread reuses one buffer for all its tasks, which rayon's `map_init` does not guarantee. If
//! the system refuses to start more threads, the existing ones do the work.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Builder;

use tokio_util::sync::CancellationToken;

use super::report::CacheError;

/// Returns the first `len` bytes of a buffer, after growing it if needed.
pub(super) fn first(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

/// Runs `work` for each task on up to `threads` threads, and returns the results in any order.
///
/// Each thread reuses one buffer for all its tasks: allocating a buffer for each file would cost more than copying a
/// small file.
///
/// # Errors
/// Returns the first error, after which no further task starts. Returns [`CacheError::Stopped`] if `stop` is cancelled.
pub(super) fn each<T: Sync, R: Send>(
    threads: usize,
    stop: &CancellationToken,
    tasks: &[T],
    work: impl Fn(&mut Vec<u8>, &T) -> Result<R, CacheError> + Sync,
) -> Result<Vec<R>, CacheError> {
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worker = || {
        let (mut results, mut buffer) = (Vec::new(), Vec::new());
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if has_failed.load(Ordering::Relaxed) {
                break;
            }
            let result = match work(&mut buffer, task) {
                Ok(_) if stop.is_cancelled() => Err(CacheError::Stopped),
                result => result,
            };
            results.push(result.inspect_err(|_| has_failed.store(true, Ordering::Relaxed))?);
        }
        Ok(results)
    };
    std::thread::scope(|scope| {
        // If the system refuses to start more threads, the existing ones do the work.
        let more = (1..threads.min(tasks.len()))
            .map_while(|_| Builder::new().spawn_scoped(scope, worker).ok());
        let more: Vec<_> = more.collect();
        let mut all = worker()?;
        for worker in more {
            match worker.join() {
                Ok(results) => all.extend(results?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}
