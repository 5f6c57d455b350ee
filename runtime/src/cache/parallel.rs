//! Work that waits for disks, on several threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Builder;

use tokio_util::sync::CancellationToken;

use super::report::CacheError;

/// The first bytes of a buffer, which grows as it must.
pub(super) fn first(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

/// Does each of these, on up to `threads` threads, and gives what came of them, in no order. The first error ends it. Each
/// thread has one buffer for all that it does: a new one for each file would cost more than the small files themselves.
pub(super) fn each<T: Sync, R: Send>(
    threads: usize,
    stop: &CancellationToken,
    tasks: &[T],
    work: impl Fn(&mut Vec<u8>, &T) -> Result<R, CacheError> + Sync,
) -> Result<Vec<R>, CacheError> {
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worker = || {
        let (mut done, mut buffer) = (Vec::new(), Vec::new());
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let worked = match work(&mut buffer, task) {
                Ok(_) if stop.is_cancelled() => Err(CacheError::Stopped),
                worked => worked,
            };
            match worked {
                Ok(worked) => done.push(worked),
                Err(error) => {
                    over.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    std::thread::scope(|scope| {
        // Where no more threads can be had, those that there are do it.
        let more = (1..threads.min(tasks.len()))
            .map_while(|_| Builder::new().spawn_scoped(scope, worker).ok());
        let more: Vec<_> = more.collect();
        let mut all = worker()?;
        for worker in more {
            match worker.join() {
                Ok(done) => all.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}
