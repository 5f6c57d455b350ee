//! The concurrency: the number of jobs that run at once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::warn;

use crate::error::HandlerError;

/// A source of the concurrency: the number of jobs, or of batches, that run at once.
pub(crate) trait Concurrency: Send {
    /// Returns the new concurrency, given the current one. Called before each poll.
    fn next(&mut self, current: usize) -> usize;
}

/// A fixed concurrency. 0 counts as 1.
pub(crate) struct Fixed(pub(crate) usize);

impl Concurrency for Fixed {
    fn next(&mut self, _: usize) -> usize {
        self.0.max(1)
    }
}

/// A callback of the user that returns the concurrency.
pub(crate) struct Asked<F>(pub(crate) F);

impl<F: FnMut(usize) -> usize + Send> Concurrency for Asked<F> {
    fn next(&mut self, current: usize) -> usize {
        match catch_unwind(AssertUnwindSafe(|| (self.0)(current))) {
            Ok(0) => {
                warn!(
                    concurrency = current,
                    "The concurrency callback returned 0; keeping the current value."
                );
                current
            }
            Ok(limit) => limit,
            Err(payload) => {
                let failure = HandlerError::panic(&*payload);
                warn!(
                    concurrency = current,
                    error = %failure,
                    "The concurrency callback panicked; keeping the current value."
                );
                current
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_value_keeps_the_last_valid_one() {
        let mut answers = [Some(4), Some(0), None, Some(2)].into_iter();
        let mut asked = Asked(|_| answers.next().flatten().expect("no answer"));
        let mut current = 1;
        let mut limits = Vec::new();
        for _ in 0..4 {
            current = asked.next(current);
            limits.push(current);
        }
        assert_eq!(limits, [4, 4, 4, 2]);
    }
}
