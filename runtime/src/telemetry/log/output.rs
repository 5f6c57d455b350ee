//! The output of the log. A standard output that nobody reads must not block a job or the shutdown.
//!
//! A line is written immediately if that does not block. Otherwise it waits in a queue, which a thread of its own
//! writes. If the queue is full, lines are dropped, and the log shows their number once it continues.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::format_line;

/// The maximum size of the waiting lines, in bytes.
const MAX_WAITING: usize = 1024 * 1024;
/// The maximum time that writing the last lines may take when the program exits.
const LAST_LINES: Duration = Duration::from_secs(1);

static STDOUT: OnceLock<LogOutput> = OnceLock::new();

/// Writes a line of the log to the standard output. `json`: all lines are JSON.
pub(super) fn write(line: Vec<u8>, json: bool) {
    let stdout = STDOUT.get_or_init(|| LogOutput::new(Box::new(io::stdout()), json));
    stdout.write(line);
}

/// Waits until the waiting lines are written, but no longer than [`LAST_LINES`].
pub(crate) fn flush() {
    if let Some(output) = STDOUT.get() {
        output.flush(LAST_LINES);
    }
}

/// A file, pipe, socket or terminal that lines are written to.
struct LogOutput {
    to: Box<dyn AsFd + Send + Sync>,
    /// Writing to a regular file does not wait for a reader.
    is_file: bool,
    /// The lines are JSON.
    json: bool,
    /// Held while a line is written immediately or added to the queue, and never while that blocks. Shared by short
    /// lines, which the system writes atomically.
    writing: RwLock<()>,
    /// Lines must go through the queue, to keep their order.
    queueing: AtomicBool,
    queue: Mutex<LineQueue>,
    /// Notified when the queue changes.
    changed: Condvar,
}

/// The lines that wait.
#[derive(Default)]
struct LineQueue {
    lines: VecDeque<Vec<u8>>,
    /// The size of `lines`, in bytes.
    bytes: usize,
    /// The number of lines that were dropped since the last one was added.
    dropped: u64,
    has_thread: bool,
}

impl LogOutput {
    fn new(to: Box<dyn AsFd + Send + Sync>, json: bool) -> Self {
        let is_file = rustix::fs::fstat(&to)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        Self {
            to,
            is_file,
            json,
            writing: RwLock::new(()),
            queueing: AtomicBool::new(false),
            queue: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Writes a line, now or later. A failure to write is ignored: it must not end the worker.
    fn write(&'static self, line: Vec<u8>) {
        let (_shared, _exclusive);
        if line.len() <= rustix::pipe::PIPE_BUF {
            _shared = self.writing.read();
        } else {
            _exclusive = self.writing.write();
        }
        let written = if self.queueing.load(Ordering::Acquire) {
            0
        } else {
            self.write_now(&line)
        };
        if written == 0 {
            self.enqueue(line);
        } else if written < line.len() {
            self.enqueue(line[written..].to_vec());
        }
    }

    /// Writes as many bytes as the system accepts without blocking. Returns the number of bytes that need no retry.
    fn write_now(&self, line: &[u8]) -> usize {
        let mut written = 0;
        while written < line.len() {
            match self.write_part(&line[written..]) {
                Ok(bytes) => written += bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => break,
                Err(_) => return line.len(),
            }
        }
        written
    }

    fn write_part(&self, line: &[u8]) -> rustix::io::Result<usize> {
        if self.is_file {
            return rustix::io::write(&self.to, line);
        }
        #[cfg(target_os = "linux")]
        {
            let (parts, flags) = ([io::IoSlice::new(line)], rustix::io::ReadWriteFlags::NOWAIT);
            rustix::io::pwritev2(&self.to, &parts, u64::MAX, flags)
        }
        #[cfg(not(target_os = "linux"))]
        Err(Errno::AGAIN)
    }

    fn queue(&self) -> MutexGuard<'_, LineQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&'static self, line: Vec<u8>) {
        let mut queue = self.queue();
        self.queueing.store(true, Ordering::Release);
        queue.push(line, self.json);
        if !queue.has_thread {
            let thread = thread::Builder::new().name("podwork-log".to_owned());
            // If the system refuses to start a thread, the next line tries again.
            queue.has_thread = thread.spawn(|| self.write_queue()).is_ok();
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// Writes the lines of the queue, and never returns.
    fn write_queue(&self) {
        loop {
            let line = self.next_line();
            // Waits for threads that do not know yet that lines have to queue.
            drop(self.writing.write());
            let mut rest = line.as_slice();
            while !rest.is_empty() {
                match rustix::io::retry_on_intr(|| rustix::io::write(&self.to, rest)) {
                    Ok(bytes) => rest = &rest[bytes..],
                    // The program has set its standard output to non-blocking.
                    Err(Errno::AGAIN) => thread::park_timeout(Duration::from_millis(10)),
                    Err(_) => break,
                }
            }
        }
    }

    /// Waits for the next line of the queue.
    fn next_line(&self) -> Vec<u8> {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.pop(self.json) {
                return line;
            }
            self.queueing.store(false, Ordering::Release);
            self.changed.notify_all();
            let waited = self.changed.wait(queue);
            queue = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until no line waits, but no longer than `limit`.
    fn flush(&self, limit: Duration) {
        let waiting = |_: &mut LineQueue| self.queueing.load(Ordering::Acquire);
        // A poisoned lock or a timeout makes no difference: the program exits.
        let _ = self
            .changed
            .wait_timeout_while(self.queue(), limit, waiting);
    }
}

impl LineQueue {
    /// Adds a line, or drops it if the queue is full.
    fn push(&mut self, line: Vec<u8>, json: bool) {
        if !self.lines.is_empty() && self.bytes + line.len() > MAX_WAITING {
            self.dropped += 1;
            return;
        }
        let notice = self.notice(json);
        for line in notice.into_iter().chain([line]) {
            self.bytes += line.len();
            self.lines.push_back(line);
        }
    }

    fn pop(&mut self, json: bool) -> Option<Vec<u8>> {
        match self.lines.pop_front() {
            Some(line) => {
                self.bytes -= line.len();
                Some(line)
            }
            None => self.notice(json),
        }
    }

    /// Returns a line that says how many lines were dropped, if any were.
    fn notice(&mut self, json: bool) -> Option<Vec<u8>> {
        let dropped = std::mem::take(&mut self.dropped);
        let message = format!(
            "Dropped log lines: the standard output was not read fast enough. lines={dropped}"
        );
        (dropped > 0).then(|| format_line(json, "WARN", None, &message).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    /// Returns an output to a pipe, and the end to read from.
    fn pipe() -> (&'static LogOutput, BufReader<std::fs::File>) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let output = Box::leak(Box::new(LogOutput::new(Box::new(write), false)));
        (output, BufReader::new(read.into()))
    }

    #[test]
    fn unread_log_lines_are_dropped_and_counted_and_never_block() {
        let (output, read) = pipe();
        let line = |n: u64| format!("{n:0>99}\n").into_bytes();
        let all = 3 * MAX_WAITING as u64 / 100;
        for n in 0..all {
            output.write(line(n));
        }
        output.flush(Duration::from_millis(1));

        let mut lines = read.lines().map(Result::unwrap);
        let mut kept: u64 = 0;
        let notice = loop {
            let line = lines.next().unwrap();
            if line.contains("Dropped") {
                break line;
            }
            assert_eq!(line.parse(), Ok(kept), "in order, and none left out");
            kept += 1;
        };
        assert!(kept * 100 >= MAX_WAITING as u64, "{kept}");
        let dropped: u64 = notice.rsplit_once('=').unwrap().1.parse().unwrap();
        assert_eq!(kept + dropped, all);

        output.flush(Duration::from_mins(1));
        output.write(b"again\n".to_vec());
        assert_eq!(lines.next().unwrap(), "again");
    }

    #[test]
    fn a_long_line_stays_whole_among_others() {
        let (output, read) = pipe();
        let threads: Vec<_> = [('a', 20_000), ('b', 5_000), ('c', 700), ('d', 50)]
            .map(|(letter, length)| {
                thread::spawn(move || {
                    for _ in 0..20 {
                        let line = letter.to_string().repeat(length) + "\n";
                        output.write(line.into_bytes());
                    }
                })
            })
            .into();
        for line in read.lines().map(Result::unwrap).take(80) {
            let first = line.chars().next().unwrap();
            assert!(line.chars().all(|letter| letter == first), "mixed lines");
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
