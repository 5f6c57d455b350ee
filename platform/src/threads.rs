//! The start of a program's async runtime.

use std::any::Any;
use std::io;
use std::num::NonZero;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::RwLock;
use std::thread;

use tokio::runtime::{Builder, Runtime};

/// Starts a runtime. Tokio reports a thread that the system refuses by a panic, which here is an error. Not a part of
/// the API.
///
/// # Errors
/// Returns an error if the system refuses a thread, for example at a container's limit on processes.
#[doc(hidden)]
pub fn start_runtime(builder: &mut Builder) -> io::Result<Runtime> {
    // If the system refuses any thread but the first, tokio waits forever for the others to end.
    try_threads(default_workers()).map_err(|error| refused(&error))?;
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let built = catch_unwind(AssertUnwindSafe(|| builder.build()));
    panic::set_hook(hook);
    built.unwrap_or_else(|payload| {
        let message = message(&*payload);
        let thread = message.strip_prefix("OS can't spawn worker thread: ");
        Err(thread.map_or_else(|| io::Error::other(message.to_owned()), |why| refused(&why)))
    })
}

/// Returns the number of threads that tokio starts by default.
fn default_workers() -> usize {
    let set = std::env::var("TOKIO_WORKER_THREADS").ok();
    let set = set.and_then(|threads| threads.parse().ok());
    set.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
}

/// Starts `count` threads at the same time, and ends them.
fn try_threads(count: usize) -> io::Result<()> {
    let gate = RwLock::new(());
    thread::scope(|scope| {
        let _closed = gate.write();
        for _ in 0..count {
            thread::Builder::new().spawn_scoped(scope, || drop(gate.read()))?;
        }
        Ok(())
    })
}

fn refused(why: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!(
        "cannot start a thread: {why}; raise the limit on processes (pids)"
    ))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the panic has no message")
}
