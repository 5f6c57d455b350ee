//! What is due when.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::job::Id;
use super::shrink::shrink;

/// Whose time it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    Job(Id),
    Worker(Id),
}

/// At most one time for each.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Instant, Timer)>,
    by_timer: HashMap<Timer, Instant>,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.by_timer.insert(timer.clone(), at) {
            if before == at {
                return;
            }
            self.by_time.remove(&(before, timer.clone()));
        }
        self.by_time.insert((at, timer));
    }

    pub(crate) fn clear(&mut self, timer: &Timer) {
        if let Some(at) = self.by_timer.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
            shrink(&mut self.by_timer);
        }
    }

    #[cfg(test)]
    pub(crate) fn get(&self, timer: &Timer) -> Option<Instant> {
        self.by_timer.get(timer).copied()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// One that is due, taken out.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_timer.remove(&timer);
        shrink(&mut self.by_timer);
        Some(timer)
    }
}
