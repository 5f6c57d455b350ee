//! The ids of the jobs that have just been settled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The maximum number of ids.
const MAX_IDS: usize = 1000;
/// The time for which an id counts. It is longer than the longest pause between two polls, and a short job.
const RECENT: Duration = Duration::from_secs(10);

/// The ids of the jobs that have just been settled, the oldest first.
#[derive(Debug, Default)]
pub(super) struct RecentIds {
    order: VecDeque<(Arc<str>, Instant)>,
    /// The latest time of each id.
    times: BTreeMap<Arc<str>, Instant>,
}

impl RecentIds {
    pub(super) fn add(&mut self, id: Arc<str>, now: Instant) {
        self.order.push_back((Arc::clone(&id), now));
        self.times.insert(id, now);
        self.forget(now);
    }

    pub(super) fn contains(&mut self, id: &str, now: Instant) -> bool {
        self.forget(now);
        self.times.contains_key(id)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((id, time)) = self.order.front() {
            if self.order.len() <= MAX_IDS && now.duration_since(*time) <= RECENT {
                return;
            }
            // The id may have been added again.
            if self.times.get(id) == Some(time) {
                self.times.remove(id);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_forgotten_after_10_seconds_or_1000_others() {
        let mut ids = RecentIds::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        ids.add("a".into(), at(0));
        ids.add("a".into(), at(5));
        ids.add("b".into(), at(6));
        assert!(ids.contains("a", at(15)) && !ids.contains("c", at(15)));
        assert!(!ids.contains("a", at(16)) && ids.contains("b", at(16)));
        for n in 0..MAX_IDS {
            assert!(ids.contains("b", at(16)), "{n}");
            ids.add(n.to_string().into(), at(16));
        }
        assert!(!ids.contains("b", at(16)) && ids.contains("0", at(16)));
        assert_eq!((ids.order.len(), ids.times.len()), (MAX_IDS, MAX_IDS));
        assert!(!ids.contains("0", at(27)) && ids.order.is_empty());
    }
}
