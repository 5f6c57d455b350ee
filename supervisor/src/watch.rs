//! The loop of a supervisor: it collects ended processes, passes signals on, and ends all processes below it.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use crate::family::descendants;
use crate::signals::ReceivedSignals;

/// The time between SIGTERM and SIGKILL when the parent is gone.
const GRACE: Duration = Duration::from_secs(5);
/// The same time for processes that are left when the child has ended.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);
/// The interval between two rounds of SIGKILL. A round may miss a process that was started meanwhile.
const ROUND: Duration = Duration::from_millis(50);
/// The time after the first SIGKILL in which all processes must have ended. One in an uninterruptible call may not.
const LAST_ROUND: Duration = Duration::from_secs(5);

/// The byte on the lifeline that ends all processes with SIGKILL.
pub(crate) const KILL_BYTE: u8 = b'k';

/// A supervisor of one child.
#[derive(Debug)]
pub(crate) struct Supervisor {
    child: Pid,
    /// The exit code of the child once it has ended.
    code: Option<u8>,
    signals: ReceivedSignals,
    /// The signals that are passed on to the child.
    passed_on: Vec<Signal>,
    /// Standard input, whose end is the end of the parent.
    lifeline: Option<io::Stdin>,
    stage: EndStage,
}

#[derive(Debug, Clone, Copy)]
enum EndStage {
    Running,
    /// All processes have received SIGTERM, and receive SIGKILL at `until`.
    Terminating {
        until: Instant,
    },
    /// All processes receive SIGKILL at `next`. The supervisor does not wait for them after `until`.
    Killing {
        next: Instant,
        until: Instant,
    },
}

impl Supervisor {
    pub(crate) fn new(
        child: Pid,
        signals: ReceivedSignals,
        passed_on: &[Signal],
        lifeline: Option<io::Stdin>,
    ) -> Self {
        Self {
            child,
            code: None,
            signals,
            passed_on: passed_on.to_vec(),
            lifeline,
            stage: EndStage::Running,
        }
    }

    /// Waits until the child and all its descendants have ended, and returns the exit code of the child: 128 plus the
    /// number of the signal if a signal ended it.
    pub(crate) fn run(mut self) -> io::Result<u8> {
        loop {
            if !self.collect()? {
                // Without orphans as children, only the group shows what is left.
                #[cfg(not(target_os = "linux"))]
                self.send_group(Signal::TERM);
                return Ok(self.code.unwrap_or(1));
            }
            let now = Instant::now();
            match self.stage {
                EndStage::Running if self.code.is_some() => self.terminate(LEFTOVER_GRACE),
                EndStage::Terminating { until } if until <= now => self.kill(now + LAST_ROUND),
                EndStage::Killing { until, .. } if until <= now => {
                    let killed = 128 + Signal::KILL.as_raw().unsigned_abs();
                    return Ok(self.code.unwrap_or(u8::try_from(killed).unwrap_or(1)));
                }
                EndStage::Killing { next, until } if next <= now => self.kill(until),
                _ => {}
            }
            self.wait_for_event()?;
        }
    }

    /// Collects all ended processes. Returns whether others are left.
    fn collect(&mut self) -> io::Result<bool> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.child => self.code = exit_code(status),
                // An orphan.
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return Ok(true),
                Err(Errno::CHILD) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a signal, the end of the parent, or the next step of the end.
    fn wait_for_event(&mut self) -> io::Result<()> {
        let until = match self.stage {
            EndStage::Running => None,
            EndStage::Terminating { until } => Some(until),
            EndStage::Killing { next, .. } => Some(next),
        };
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs().cast_signed(),
                // Rounded up, so that the time is over after the call.
                tv_nsec: i64::from(left.subsec_nanos())
                    .saturating_add(1)
                    .min(999_999_999) as _,
            }
        });
        let mut sources = vec![PollFd::from_borrowed_fd(
            self.signals.descriptor(),
            PollFlags::IN,
        )];
        if let Some(lifeline) = &self.lifeline {
            sources.push(PollFd::from_borrowed_fd(lifeline.as_fd(), PollFlags::IN));
        }
        match poll(&mut sources, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let parent_acted = sources
            .get(1)
            .is_some_and(|lifeline| !lifeline.revents().is_empty());
        for signal in self.signals.requests().collect::<Vec<_>>() {
            if self.code.is_none()
                && matches!(self.stage, EndStage::Running)
                && self.passed_on.contains(&signal)
            {
                send(self.child, signal);
            }
        }
        if parent_acted {
            self.read_lifeline();
        }
        Ok(())
    }

    fn read_lifeline(&mut self) {
        let mut byte = [0];
        // Unbuffered: `poll` does not see the content of a buffer.
        match self
            .lifeline
            .as_ref()
            .map(|lifeline| rustix::io::read(lifeline, &mut byte))
        {
            Some(Ok(1)) if byte[0] == KILL_BYTE => self.kill(Instant::now() + LAST_ROUND),
            Some(Ok(1) | Err(Errno::INTR)) => {}
            // The parent is gone. If it has requested SIGKILL before, that is under way.
            _ => {
                self.lifeline = None;
                if matches!(self.stage, EndStage::Running) {
                    self.terminate(GRACE);
                }
            }
        }
    }

    fn terminate(&mut self, grace: Duration) {
        self.stage = EndStage::Terminating {
            until: Instant::now() + grace,
        };
        self.send_all(Signal::TERM);
    }

    fn kill(&mut self, until: Instant) {
        self.stage = EndStage::Killing {
            next: Instant::now() + ROUND,
            until,
        };
        self.send_all(Signal::KILL);
    }

    /// Sends a signal to all processes below this one.
    fn send_all(&self, signal: Signal) {
        let mut all = descendants();
        if self.code.is_none() && !all.contains(&self.child) {
            all.push(self.child);
        }
        for pid in all {
            send(pid, signal);
        }
        #[cfg(not(target_os = "linux"))]
        self.send_group(signal);
    }

    /// Sends a signal to the process group, if it is one of this supervisor. SIGTERM does not affect the supervisor
    /// itself, and SIGKILL ends it last.
    #[cfg(not(target_os = "linux"))]
    fn send_group(&self, signal: Signal) {
        use rustix::process::{getpgrp, getpid, kill_process_group};

        if getpgrp() == getpid() {
            // An error means that all others have ended.
            let _ = kill_process_group(getpgrp(), signal);
        }
    }
}

fn send(pid: Pid, signal: Signal) {
    // An error means that the process has ended, or that it runs as another user, who must end it.
    let _ = kill_process(pid, signal);
}

fn exit_code(status: WaitStatus) -> Option<u8> {
    let code = status
        .exit_status()
        .or_else(|| Some(128 + status.terminating_signal()?))?;
    u8::try_from(code).ok()
}
