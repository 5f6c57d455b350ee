//! How many jobs run at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tracing::warn;

use crate::error::HandlerError;
use crate::run::batches::Batches;

use crate::take::poll::Concurrency;

/// The same number always.
pub(crate) struct Fixed(pub(crate) usize);

impl Concurrency for Fixed {
    fn next(&mut self, _: usize) -> usize {
        self.0.max(1)
    }
}

/// What a callback of the user's says.
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

/// That number of batches: as many jobs as fill them, and one batch more, which forms while they run. Were it not there, a
/// full batch would let none come, and those that come beside a smaller one would follow it as another small one.
pub(crate) struct InBatches<S, T>(
    pub(crate) Box<dyn Concurrency>,
    pub(crate) Arc<Batches<S, T>>,
);

impl<S: Send + Sync, T: Send> Concurrency for InBatches<S, T> {
    fn next(&mut self, jobs: usize) -> usize {
        let Self(concurrency, batches) = self;
        let current = (jobs / batches.max_batch()).saturating_sub(1).max(1);
        let limit = concurrency.next(current);
        batches.set_limit(limit);
        limit.saturating_add(1).saturating_mul(batches.max_batch())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::handler::{Batching, Call};
    use crate::run::batches::Limits;

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

    #[test]
    fn a_callback_of_batches_is_told_batches_and_one_more_is_taken() {
        let batching = Batching::<(), ()> {
            max_batch: 5,
            max_wait: Duration::ZERO,
            weighing: None,
            input: Call::input,
            call: |_, _| unreachable!("nothing is called"),
        };
        let batches = Batches::new(batching, Limits::default(), Arc::new(()));
        let one_more = Asked(|batches| batches + 1);
        let mut concurrency = InBatches(Box::new(one_more), batches);
        assert_eq!(concurrency.next(1), 15, "2 of 5, and one that forms");
        assert_eq!(concurrency.next(15), 20);
    }
}
