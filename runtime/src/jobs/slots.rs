//! How many jobs may run, and how many ended ones may wait for delivery.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::telemetry::Load;

/// Bytes of ended jobs that may wait for delivery before the worker takes no more. The jobs that run then may each add
/// theirs: one outbox and one result.
const UNDELIVERED_BYTES: usize = 64 * 1024 * 1024;
/// Ended jobs that may wait for delivery before the worker takes no more, where fewer run at once; otherwise as many as
/// run. Work that cannot be delivered must not pile up in memory, and a worker with one slot is to ride out a slow post.
const MIN_UNDELIVERED: usize = 8;

/// The worker's slots. The limit may change while jobs run: it grows at once, and shrinks as jobs end.
#[derive(Debug)]
pub(crate) struct Slots {
    // Never held across an await.
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    limit: usize,
    running: usize,
    /// Nobody has them, and nobody gets them.
    held_back: usize,
    delivering: usize,
    /// Of the jobs being delivered, as each was when its handler ended.
    bytes: usize,
}

impl State {
    fn free(&self) -> usize {
        if self.bytes >= UNDELIVERED_BYTES {
            return 0;
        }
        let undelivered = self.limit.max(MIN_UNDELIVERED);
        let taken = self.running.saturating_add(self.held_back);
        let slots = self.limit.saturating_sub(taken);
        slots.min(undelivered.saturating_sub(self.delivering))
    }
}

impl Slots {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                limit,
                running: 0,
                held_back: 0,
                delivering: 0,
                bytes: 0,
            }),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn limit(&self) -> usize {
        self.state().limit
    }

    pub(crate) fn load(&self) -> Load {
        let state = self.state();
        Load {
            limit: state.limit,
            running: state.running,
            undelivered: state.delivering,
            bytes: state.bytes,
        }
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.state().limit = limit;
        self.changed.notify_one();
    }

    /// Waits until at least one more job may run; how many may. Meant for one waiter.
    pub(crate) async fn free(&self) -> usize {
        loop {
            let changed = self.changed.notified();
            let free = self.state().free();
            if free > 0 {
                return free;
            }
            changed.await;
        }
    }

    /// Gives so many fewer, until what this returns is dropped.
    pub(crate) fn hold_back(self: &Arc<Self>, count: usize) -> HeldBack {
        let count = {
            let mut state = self.state();
            // The limit may be as high as there are numbers.
            let count = count.min(usize::MAX - state.held_back);
            state.held_back += count;
            count
        };
        HeldBack {
            slots: Arc::clone(self),
            count,
        }
    }

    /// A slot for a job that was taken. It is given even beyond the limit: a job that is here must run.
    pub(crate) fn occupy(self: &Arc<Self>) -> Slot {
        self.state().running += 1;
        Slot {
            slots: Arc::clone(self),
            delivering: OnceLock::new(),
        }
    }
}

/// Slots that are not given while this is there.
#[derive(Debug)]
pub(crate) struct HeldBack {
    slots: Arc<Slots>,
    count: usize,
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        self.slots.state().held_back -= self.count;
        self.slots.changed.notify_one();
    }
}

/// A job's place: first among the running, then among those being delivered.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    /// How many bytes, once it is being delivered.
    delivering: OnceLock<usize>,
}

impl Slot {
    /// The handler has ended: another job may run while this one's last `bytes` are delivered.
    pub(crate) fn delivering(&self, bytes: usize) {
        if self.delivering.set(bytes).is_err() {
            return;
        }
        {
            let mut state = self.slots.state();
            state.running -= 1;
            state.delivering += 1;
            state.bytes += bytes;
        }
        self.slots.changed.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut state = self.slots.state();
            if let Some(bytes) = self.delivering.get() {
                state.delivering -= 1;
                state.bytes -= bytes;
            } else {
                state.running -= 1;
            }
        }
        self.slots.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn a_slot_is_free_once_its_handler_has_ended() {
        let slots = Slots::new(1);
        assert_eq!(slots.free().await, 1);
        let slot = slots.occupy();
        assert_eq!(slots.free().now_or_never(), None);
        slot.delivering(0);
        assert_eq!(slots.free().await, 1);
    }

    #[tokio::test]
    async fn undelivered_work_holds_back_the_next_take() {
        let slots = Slots::new(1);
        let mut waiting: Vec<Slot> = (0..MIN_UNDELIVERED).map(|_| slots.occupy()).collect();
        for slot in &mut waiting {
            slot.delivering(0);
        }
        assert_eq!(slots.free().now_or_never(), None);
        waiting.pop();
        assert_eq!(slots.free().await, 1);
    }

    #[tokio::test]
    async fn so_do_its_bytes() {
        let slots = Slots::new(1);
        let slot = slots.occupy();
        slot.delivering(UNDELIVERED_BYTES);
        assert_eq!(slots.free().now_or_never(), None);
        drop(slot);
        assert_eq!(slots.free().await, 1);
    }

    #[tokio::test]
    async fn what_is_held_back_is_not_given() {
        let slots = Slots::new(4);
        let running = slots.occupy();
        let held_back = slots.hold_back(2);
        assert_eq!(slots.free().await, 1);
        drop(running);
        assert_eq!(slots.free().await, 2);
        drop(held_back);
        assert_eq!(slots.free().await, 4);
    }

    #[tokio::test]
    async fn the_limit_grows_at_once_and_shrinks_as_jobs_end() {
        let slots = Slots::new(2);
        let mut running = vec![slots.occupy(), slots.occupy()];
        slots.set_limit(4);
        assert_eq!(slots.free().await, 2);
        slots.set_limit(1);
        running.pop();
        assert_eq!(slots.free().now_or_never(), None);
        running.pop();
        assert_eq!(slots.free().await, 1);
    }
}
