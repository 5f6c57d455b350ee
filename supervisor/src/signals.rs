//! The signals that a supervisor receives.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// The signals that ask a program to do something, and that a supervisor passes on.
pub(crate) const REQUESTS: [Signal; 6] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
];

/// The signals that a terminal sends to all processes in its foreground.
pub(crate) const OF_TERMINALS: [Signal; 3] = [Signal::HUP, Signal::INT, Signal::QUIT];

/// The received signals: requests, and the ends of child processes.
#[derive(Debug)]
pub(crate) struct ReceivedSignals(SignalDelivery<UnixStream, SignalOnly>);

impl ReceivedSignals {
    /// Starts to receive signals, except those that this process was started to ignore: its child must ignore them,
    /// too.
    pub(crate) fn new() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let received = REQUESTS
            .into_iter()
            .filter(|signal| !is_ignored(signal.as_raw()));
        let received = received.chain([Signal::CHILD]).map(Signal::as_raw);
        Ok(Self(SignalDelivery::with_pipe(
            read, write, SignalOnly, received,
        )?))
    }

    /// Returns a descriptor that is readable when a signal has arrived.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }

    /// Returns the requests that have arrived since the last call.
    pub(crate) fn requests(&mut self) -> impl Iterator<Item = Signal> {
        let arrived = self.0.pending().filter_map(Signal::from_named_raw);
        arrived.filter(|signal| *signal != Signal::CHILD)
    }
}

/// Returns whether this process ignores a signal, as after `nohup`. Returns `false` where this is unknown: on systems
/// other than Linux, and without `/proc`.
pub fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    u32::try_from(signal - 1).is_ok_and(|bit| ignored(&status) & (1_u64 << bit) != 0)
}

/// Returns the mask of ignored signals in the text of `/proc/<pid>/status`. Bit 0 is signal 1.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tsh\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n";
        assert_eq!(ignored(status), 0x1001);
        assert_eq!(ignored("SigIgn:\tx\n"), 0);
        assert_eq!(ignored(""), 0);
    }
}
