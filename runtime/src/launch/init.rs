//! The worker as process 1 of a container.

use std::process::ExitCode;

use crate::config::given;
use crate::stderr::note;

/// The variable that makes process 1 run the jobs itself.
const INIT: &str = "PODWORK_INIT";

/// Returns whether this process must run the worker as its child.
pub(super) fn is_wanted(lookup: impl Fn(&str) -> Option<String>) -> bool {
    let disabled =
        given(lookup, INIT).is_some_and(|value| matches!(value.as_str(), "0" | "false" | "no"));
    !disabled && podwork_supervisor::can_be_init()
}

/// Runs the worker as a child of this process, and exits with the exit code of the child. Code of `main` after this
/// call has run in the child. Returns only if the child cannot be started.
pub(super) fn run() -> ExitCode {
    match podwork_supervisor::init() {
        Ok(code) => std::process::exit(code.into()),
        Err(error) => {
            note(format_args!(
                "error: cannot start the worker as a child of process 1: {error}; set PODWORK_INIT=0 to run it as \
                 process 1"
            ));
            ExitCode::FAILURE
        }
    }
}
