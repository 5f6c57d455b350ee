//! Processes that are measured.

use std::fs::OpenOptions;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use crate::error::Result;

/// A running worker; dropping this kills it.
#[derive(Debug)]
pub(crate) struct MeasuredProcess {
    child: Child,
    /// The file with its standard output and standard error.
    log: NamedTempFile,
    /// The time immediately before its start.
    pub(crate) started: SystemTime,
}

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessMemory {
    /// The resident memory now.
    pub(crate) now: u64,
    /// The largest resident memory so far.
    pub(crate) peak: u64,
}

impl MeasuredProcess {
    /// Starts a process, without `RUNPOD_` variables except those in `env`.
    pub(crate) fn start(mut command: Command, env: &[(String, String)]) -> Result<Self> {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RUNPOD_")) {
            command.env_remove(name);
        }
        let log = NamedTempFile::new()?;
        let output = OpenOptions::new().append(true).open(log.path())?;
        command
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let started = SystemTime::now();
        let child = command
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        Ok(Self {
            child,
            log,
            started,
        })
    }

    /// Returns an error with the output of the process if it has exited.
    pub(crate) fn lives(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                Err(format!("the worker exited early ({status}):\n{}", self.said()?).into())
            }
        }
    }

    /// Returns the output of the process so far.
    pub(crate) fn said(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.log.path())?).into_owned())
    }

    /// Returns the CPU time of all threads of the process, including threads that have ended.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu(self.child.id())
    }

    /// Returns the memory of the process.
    pub(crate) fn memory(&self) -> Result<ProcessMemory> {
        memory(self.child.id())
    }
}

/// Returns the memory of a process.
pub(crate) fn memory(id: u32) -> Result<ProcessMemory> {
    let path = format!("/proc/{id}/status");
    let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    memory_of(&status).ok_or_else(|| format!("{path} does not show the memory").into())
}

impl Drop for MeasuredProcess {
    fn drop(&mut self) {
        let children = children(self.child.id());
        // An error means that it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for child in children {
            end(child);
        }
    }
}

/// Returns the child processes of a process: the heartbeat of the official worker is one, and would outlive it.
fn children(id: u32) -> Vec<i32> {
    // Not every system has this file.
    let list = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

#[cfg(target_os = "linux")]
fn end(id: i32) {
    use nix::sys::signal::{Signal, kill};

    // An error means that it has exited already.
    let _ = kill(nix::unistd::Pid::from_raw(id), Signal::SIGKILL);
}

#[cfg(not(target_os = "linux"))]
fn end(_: i32) {}

#[cfg(target_os = "linux")]
fn cpu(id: u32) -> Result<Duration> {
    // This clock counts in nanoseconds; /proc/<id>/stat counts in hundredths of a second.
    let id = nix::unistd::Pid::from_raw(id.try_into()?);
    Ok(nix::time::clock_getcpuclockid(id)?.now()?.into())
}

#[cfg(not(target_os = "linux"))]
fn cpu(_: u32) -> Result<Duration> {
    Err("the CPU time of another process can be read only on Linux: run the benchmark there".into())
}

fn memory_of(status: &str) -> Option<ProcessMemory> {
    let bytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    };
    Some(ProcessMemory {
        now: bytes("VmRSS:")?,
        peak: bytes("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_proc() {
        let memory = memory_of("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t     512 kB\n").unwrap();
        assert_eq!((memory.now, memory.peak), (512 * 1024, 2048 * 1024));
        assert!(memory_of("Name:\tx\n").is_none());
    }
}
