//! The log of what a poll returns besides new jobs.

use std::time::Duration;

use podwork_protocol::worker::IgnoredElements;
use tokio::time::Instant;
use tracing::{error, warn};

/// The log of what a poll returns besides new jobs. A platform may repeat it with every poll, so the first occurrence is
/// logged, and the others are counted once a minute.
#[derive(Debug, Default)]
pub(super) struct IntakeLog {
    ignored: Repeats,
    duplicates: Repeats,
}

impl IntakeLog {
    /// Records elements of a response that are not jobs.
    pub(super) fn ignored(&mut self, elements: &IgnoredElements) {
        if self.ignored.is_first(elements.count) {
            error!(
                elements = elements.count,
                error = %elements.why,
                "Ignoring what the platform returned in place of a job: it has no valid id."
            );
        }
    }

    /// Records a job that the platform handed out twice.
    pub(super) fn duplicate(&mut self, job_id: &str) {
        if self.duplicates.is_first(1) {
            warn!(
                %job_id,
                "Ignoring a duplicate delivery: the job is in flight or just completed."
            );
        }
    }

    /// Logs the counts that are due.
    pub(super) fn summarize(&mut self) {
        if let Some(elements) = self.ignored.due() {
            error!(
                elements,
                "Ignored more of what the platform returned in place of jobs."
            );
        }
        if let Some(deliveries) = self.duplicates.due() {
            warn!(deliveries, "Ignored more duplicate deliveries.");
        }
    }
}

/// The occurrences of one kind.
#[derive(Debug, Default)]
struct Repeats {
    last_line: Option<Instant>,
    unlogged: usize,
}

impl Repeats {
    /// The minimum time between two lines.
    const INTERVAL: Duration = Duration::from_mins(1);

    /// Counts occurrences. Returns whether to log them: the last line is long ago.
    fn is_first(&mut self, count: usize) -> bool {
        if self.is_recent() {
            self.unlogged = self.unlogged.saturating_add(count);
            return false;
        }
        self.last_line = Some(Instant::now());
        true
    }

    /// Returns the number of occurrences since the last line, if a line is due for them.
    fn due(&mut self) -> Option<usize> {
        if self.unlogged == 0 || self.is_recent() {
            return None;
        }
        self.last_line = Some(Instant::now());
        Some(std::mem::take(&mut self.unlogged))
    }

    fn is_recent(&self) -> bool {
        self.last_line
            .is_some_and(|last| last.elapsed() < Self::INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn repeats_are_logged_once_and_then_counted() {
        let mut repeats = Repeats::default();
        assert!(repeats.is_first(1));
        assert_eq!(repeats.due(), None);
        assert!(!repeats.is_first(1) && !repeats.is_first(3));
        assert_eq!(repeats.due(), None);
        tokio::time::advance(Repeats::INTERVAL).await;
        assert_eq!(repeats.due(), Some(4));
        assert!(!repeats.is_first(1), "a line was just logged");
        tokio::time::advance(Repeats::INTERVAL).await;
        assert!(repeats.is_first(1));
        tokio::time::advance(Repeats::INTERVAL).await;
        assert_eq!(repeats.due(), Some(1), "nothing is lost");
        assert_eq!(repeats.due(), None);
    }
}
