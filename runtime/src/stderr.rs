//! Standard error: the errors of a worker, and the messages of panics. It may have no reader, so writing never blocks.

use std::fmt::Display;

/// Prints a line on standard error. If nobody reads it, drops the rest: that must not block a job or the exit. Ignores
/// errors, because there is no other place to report them.
pub(crate) fn note(line: impl Display) {
    descriptor::write(format!("{line}\n").as_bytes());
}

pub(crate) use descriptor::has_room;

#[cfg(unix)]
mod descriptor {
    use std::io;
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;

    /// The time to wait for a reader, in nanoseconds.
    const PATIENCE: i64 = 200_000_000;

    /// The last write found no reader in time, so the next one does not wait.
    static UNREAD: AtomicBool = AtomicBool::new(false);

    pub(super) fn write(text: &[u8]) {
        // Without the lock of the standard library: a thread that holds it may be blocked.
        write_to(io::stderr(), text, &UNREAD);
    }

    /// Returns whether standard error takes this number of bytes without blocking, as far as the system reports it.
    pub(crate) fn has_room(bytes: usize) -> bool {
        has_room_in(io::stderr(), bytes, &UNREAD)
    }

    pub(super) fn write_to(to: impl AsFd, mut rest: &[u8], unread: &AtomicBool) {
        while !rest.is_empty() && is_writable(&to, unread) {
            // A pipe that is writable takes this size without blocking.
            let part = &rest[..rest.len().min(rustix::pipe::PIPE_BUF)];
            match rustix::io::write(&to, part) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return,
            }
        }
    }

    pub(super) fn has_room_in(to: impl AsFd, bytes: usize, unread: &AtomicBool) -> bool {
        is_writable(&to, unread) && free(&to).is_none_or(|free| free >= bytes)
    }

    /// Waits until a write of up to [`PIPE_BUF`](rustix::pipe::PIPE_BUF) bytes does not block. Returns `false` if there
    /// is no reader in time.
    fn is_writable(to: impl AsFd, unread: &AtomicBool) -> bool {
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: if unread.load(Ordering::Relaxed) {
                0
            } else {
                PATIENCE
            },
        };
        let mut polled = [PollFd::new(&to, PollFlags::OUT)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut polled, Some(&limit)));
        let is_writable = ready.is_ok_and(|ready| ready > 0);
        unread.store(!is_writable, Ordering::Relaxed);
        is_writable
    }

    /// Returns the number of bytes that a pipe has room for. `None` if it is not a pipe, or if the system does not report it.
    #[cfg(target_os = "linux")]
    fn free(pipe: impl AsFd) -> Option<usize> {
        let size = rustix::pipe::fcntl_getpipe_size(&pipe).ok()?;
        let waiting = usize::try_from(rustix::io::ioctl_fionread(&pipe).ok()?).ok()?;
        Some(size.saturating_sub(waiting))
    }

    #[cfg(not(target_os = "linux"))]
    fn free(_: impl AsFd) -> Option<usize> {
        None
    }
}

#[cfg(not(unix))]
mod descriptor {
    use std::io::{self, Write as _};

    pub(super) fn write(text: &[u8]) {
        let _ = io::stderr().lock().write_all(text);
    }

    pub(crate) fn has_room(_: usize) -> bool {
        true
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Read as _;
    use std::sync::atomic::AtomicBool;

    use super::descriptor::{has_room_in, write_to};

    #[test]
    fn a_note_that_nobody_reads_is_dropped() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let unread = AtomicBool::new(false);
        assert!(has_room_in(&write, 4096, &unread));
        write_to(&write, b"first\n", &unread);
        // More than the pipe holds.
        write_to(&write, &vec![b'x'; 1 << 20], &unread);
        assert!(unread.load(std::sync::atomic::Ordering::Relaxed));
        assert!(!has_room_in(&write, 0, &unread));

        let mut start = [0; 6];
        let mut read = std::fs::File::from(read);
        read.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"first\n");
        let mut rest = vec![0; 64 * 1024];
        let _ = read.read(&mut rest).unwrap();
        write_to(&write, b"again\n", &unread);
        drop(write);
        let mut rest = Vec::new();
        read.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(b"again\n"), "it continues with a reader");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pipe_that_is_almost_full_has_no_room_for_a_long_message() {
        let (_read, write) = rustix::pipe::pipe().unwrap();
        let unread = AtomicBool::new(false);
        write_to(&write, &[b'x'; 4096], &unread);
        assert!(has_room_in(&write, 4096, &unread));
        assert!(!has_room_in(&write, 1 << 20, &unread));
    }
}
