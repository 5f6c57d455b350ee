//! Inputs that are checked before the handler sees them: `#[handler(validate)]`.

use std::fmt::Write as _;

use garde::{Report, Validate};

use crate::error::handler_error::{HandlerError, short};
use crate::handler::{Call, Input};

/// Most broken rules that an error names.
const MOST_NAMED: usize = 16;
/// Longest place or rule in an error, in bytes: both may hold what the client sent.
const LONGEST: usize = 400;

/// What can be checked.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no rules to check it by",
    label = "not `garde::Validate`",
    note = "derive `garde::Validate` for it, of garde 0.23, with a context that has a default; or leave out `validate` of \
            `#[handler(validate)]`"
)]
pub trait CheckedInput {
    /// What is wrong with it.
    ///
    /// # Errors
    /// A rule is broken.
    fn check(&self) -> Result<(), Report>;
}

#[diagnostic::do_not_recommend]
impl<T: Validate<Context: Default> + ?Sized> CheckedInput for T {
    fn check(&self) -> Result<(), Report> {
        self.validate()
    }
}

impl<S> Call<S> {
    /// The job's input as `T`, as [`input`](Self::input) reads it, and by the rules of `T`.
    ///
    /// # Errors
    /// It does not fit, or breaks rules; the error names each with its place, e.g. ``invalid input at `size.width`: lower
    /// than 1``.
    pub fn checked_input<T: Input + CheckedInput>(&self) -> Result<T, HandlerError> {
        let input = self.input::<T>()?;
        match input.check() {
            Ok(()) => Ok(input),
            Err(report) => Err(HandlerError::new("invalid_input", message(&report))),
        }
    }
}

/// All that is wrong, within bounds.
fn message(report: &Report) -> String {
    let mut message = "invalid input".to_owned();
    let broken = report.iter().count();
    for (at, (path, rule)) in report.iter().take(MOST_NAMED).enumerate() {
        let (path, rule) = (
            short(path.to_string(), LONGEST),
            short(rule.to_string(), LONGEST),
        );
        let between = if at == 0 { "" } else { ";" };
        // A text takes all that is written to it.
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
