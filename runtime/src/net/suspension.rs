//! Detection of suspended machines: hosts that take snapshots of idle machines, and laptops that sleep.

use std::time::{Duration, Instant, SystemTime};

use tokio::time::{Interval, MissedTickBehavior, interval};

/// The interval of the comparison of the clocks.
const INTERVAL: Duration = Duration::from_secs(5);
/// The minimum suspension to notice. Smaller differences come from clocks that are adjusted.
const MINIMUM: Duration = Duration::from_secs(10);

/// Notices that the machine was suspended: the wall clock has advanced, and the clock of the running machine has not. The
/// connections of a suspended machine are usually dead, because the other ends have closed them. A process that was only
/// stopped keeps its connections, and does not count as suspended.
#[derive(Debug)]
pub(crate) struct Suspensions {
    ticks: Interval,
    wall: SystemTime,
    running: Instant,
}

impl Suspensions {
    pub(crate) fn new() -> Self {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            ticks,
            wall: SystemTime::now(),
            running: Instant::now(),
        }
    }

    /// Waits until the machine was suspended. Cancel safe.
    pub(crate) async fn next(&mut self) {
        loop {
            self.ticks.tick().await;
            if self.noticed() {
                return;
            }
        }
    }

    /// Returns whether the machine was suspended since the last call.
    pub(crate) fn noticed(&mut self) -> bool {
        self.noticed_at(SystemTime::now(), Instant::now())
    }

    fn noticed_at(&mut self, wall: SystemTime, running: Instant) -> bool {
        let wall_before = std::mem::replace(&mut self.wall, wall);
        let running_before = std::mem::replace(&mut self.running, running);
        // An error means that the wall clock was set back, which is not a suspension.
        let passed = wall.duration_since(wall_before).unwrap_or_default();
        passed >= running.duration_since(running_before) + MINIMUM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_jump_of_the_wall_clock_alone_is_a_suspension() {
        let mut suspensions = Suspensions::new();
        let (mut wall, mut running) = (suspensions.wall, suspensions.running);
        let mut after = |wall_passed: u64, running_passed: u64| {
            wall += Duration::from_secs(wall_passed);
            running += Duration::from_secs(running_passed);
            suspensions.noticed_at(wall, running)
        };
        assert!(!after(5, 5));
        assert!(!after(6, 5), "an adjusted clock");
        assert!(!after(300, 300), "a stopped process");
        assert!(after(3605, 5));
        assert!(!after(5, 5), "noticed once");
        let back = suspensions.wall - Duration::from_hours(1);
        assert!(!suspensions.noticed_at(back, running));
    }
}
