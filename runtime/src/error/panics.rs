//! Panics: their text and place, and panics that are caught on purpose.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::thread;

use crate::stderr;

/// The room on standard error that the previous hook needs besides the message: a backtrace, for example.
const HOOK_OUTPUT: usize = 16 * 1024;

thread_local! {
    /// The place of the last panic on this thread.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
    /// A panic on this thread is expected, so the hook does not print it.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Installs a panic hook that records the source location of each panic for [`text`]. The previous hook still runs,
/// except for panics that [`expecting`] catches, and if its output could block: a standard error that nobody reads must
/// not block a job.
pub(crate) fn note() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PLACE.set(info.location().map(ToString::to_string));
            // Without unwinding, this is the last that the user sees of the program.
            if cfg!(panic = "unwind") && EXPECTED.get() {
                return;
            }
            if stderr::has_room(HOOK_OUTPUT + message(info.payload()).len()) {
                before(info);
            } else {
                let thread = thread::current();
                let name = thread.name().unwrap_or("<unnamed>");
                stderr::note(format_args!("\nthread '{name}' {info}"));
            }
        }));
    });
}

/// Returns the message of a panic on this thread, with the source location that the hook of [`note`] recorded.
pub(crate) fn text(payload: &(dyn Any + Send)) -> String {
    let message = message(payload);
    match PLACE.take() {
        Some(place) => format!("panicked at {place}: {message}"),
        None => format!("panicked: {message}"),
    }
}

/// Calls a function that reports an error only by a panic. Returns the message of the panic, without printing it.
pub(crate) fn expecting<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let before = EXPECTED.replace(true);
    let called = catch_unwind(AssertUnwindSafe(call));
    EXPECTED.set(before);
    called.map_err(|payload| {
        PLACE.take();
        message(&*payload).to_owned()
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the panic has no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_is_an_error_without_a_stale_location() {
        note();
        assert_eq!(expecting(|| 1), Ok(1));
        let failed: Result<(), _> = expecting(|| panic!("no {}", "thread"));
        assert_eq!(failed, Err("no thread".to_owned()));
        assert_eq!(text(&"later"), "panicked: later");
    }
}
