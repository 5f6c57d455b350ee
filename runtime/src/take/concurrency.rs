//! The number of jobs that run at once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::warn;

use crate::error::HandlerError;

/// The number of jobs, or of batches, that run at once; asked before each take.
pub(crate) trait Concurrency: Send {
    /// Returns the number from now on, given the present one.
    fn next(&mut self, current: usize) -> usize;
}

/// A fixed number.
pub(crate) struct Fixed(pub(crate) usize);

impl Concurrency for Fixed {
    fn next(&mut self, _: usize) -> usize {
        self.0.max(1)
    }
}

/// A callback of the user's.
pub(crate) struct Asked<F>(pub(crate) F);

impl<F: FnMut(usize) -> usize + Send> Concurrency for Asked<F> {
    fn next(&mut self, current: usize) -> usize {
        match catch_unwind(AssertUnwindSafe(|| (self.0)(current))) {
            Ok(0) => {
                warn!("the concurrency callback asks for 0 jobs at once; {current} stays");
                current
            }
            Ok(limit) => limit,
            Err(payload) => {
                let failure = HandlerError::panic(&*payload);
                warn!("the concurrency callback failed, and {current} stays: {failure}");
                current
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_answer_keeps_the_last_good_one() {
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
