//! Validation of inputs before the handler is called: `#[handler(validate)]`.

use std::fmt::Write as _;

use garde::{Report, Validate};

use crate::error::handler_error::{HandlerError, short};
use crate::handler::{Call, Input};

/// The maximum number of broken rules that an error lists.
const MOST_NAMED: usize = 16;
/// The maximum length of a path or a rule in an error, in bytes: both may contain text that the client sent.
const LONGEST: usize = 400;

/// An input with validation rules.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no validation rules",
    label = "not `garde::Validate`",
    note = "derive `garde::Validate` (garde 0.23) for it, with a context that implements `Default`; or remove `validate` \
            from `#[handler(validate)]`"
)]
pub trait CheckedInput {
    /// Checks the rules.
    ///
    /// # Errors
    /// Returns the broken rules, if there are any.
    fn check(&self) -> Result<(), Report>;
}

#[diagnostic::do_not_recommend]
impl<T: Validate<Context: Default> + ?Sized> CheckedInput for T {
    fn check(&self) -> Result<(), Report> {
        self.validate()
    }
}

impl<S> Call<S> {
    /// Returns the job's input as `T`, like [`input`](Self::input), and checks it against the rules of `T`.
    ///
    /// # Errors
    /// Returns an error if the input is invalid or breaks rules. It names each broken rule with its path, e.g.
    /// ``invalid input at `size.width`: lower than 1``.
    pub fn checked_input<T: Input + CheckedInput>(&self) -> Result<T, HandlerError> {
        let input = self.input::<T>()?;
        match input.check() {
            Ok(()) => Ok(input),
            Err(report) => Err(HandlerError::new("invalid_input", message(&report))),
        }
    }
}

/// Returns the error message, which lists the broken rules up to a limit.
fn message(report: &Report) -> String {
    let mut message = "invalid input".to_owned();
    let broken = report.iter().count();
    for (at, (path, rule)) in report.iter().take(MOST_NAMED).enumerate() {
        let (path, rule) = (
            short(path.to_string(), LONGEST),
            short(rule.to_string(), LONGEST),
        );
        let between = if at == 0 { "" } else { ";" };
        // Writing to a `String` does not fail.
        let _ = match path.as_str() {
            "" if at == 0 => write!(message, ": {rule}"),
            "" => write!(message, "; {rule}"),
            path => write!(message, "{between} at `{path}`: {rule}"),
        };
    }
    if broken > MOST_NAMED {
        let _ = write!(message, "; and {} more", broken - MOST_NAMED);
    }
    message
}
