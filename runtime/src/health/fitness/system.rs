//! The checks of memory and disk space.

use std::fs;
use std::path::Path;

use tracing::{info, warn};

use crate::error::HandlerError;

use super::cgroup;

const GIB: f64 = (1024 * 1024 * 1024) as f64;

/// Checks that enough memory is available, both within the container's limit and on the machine.
pub(crate) fn memory(min_gb: f64) -> Result<(), HandlerError> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok();
    let machine = meminfo.as_deref().and_then(available);
    let container = cgroup::memory_left(Path::new("/"));
    let Some(bytes) = machine.into_iter().chain(container).min() else {
        warn!("Cannot determine the available memory; skipping the memory check.");
        return Ok(());
    };
    let gb = gib(bytes);
    if gb < min_gb {
        return Err(HandlerError::new(
            "memory",
            format!(
                "{gb:.2} GiB of memory are available, but RUNPOD_MIN_MEMORY_GB requires {min_gb}"
            ),
        ));
    }
    info!(available_gib = %format_args!("{gb:.2}"), "Checked the available memory.");
    Ok(())
}

/// Checks that enough of the root file system, which is the container's, is free.
#[cfg(unix)]
pub(crate) fn disk(min_percent: f64) -> Result<(), HandlerError> {
    let disk = rustix::fs::statvfs("/")?;
    // The precision of an `f64` suffices for a percentage.
    #[allow(clippy::cast_precision_loss)]
    let percent = 100.0 * disk.f_bavail as f64 / disk.f_blocks.max(1) as f64;
    let free = gib(disk.f_bavail.saturating_mul(disk.f_frsize));
    if percent < min_percent {
        return Err(HandlerError::new(
            "disk",
            format!(
                "{free:.2} GiB of disk ({percent:.1}%) are free, but RUNPOD_MIN_DISK_PERCENT requires {min_percent}%"
            ),
        ));
    }
    info!(
        free_gib = %format_args!("{free:.2}"),
        free_percent = %format_args!("{percent:.1}"),
        "Checked the free disk space."
    );
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn disk(_: f64) -> Result<(), HandlerError> {
    warn!("Cannot determine the free disk space; skipping the disk check.");
    Ok(())
}

/// Returns `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Converts bytes to GiB for display and comparison, where the loss of precision does not matter.
#[allow(clippy::cast_precision_loss)]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read() {
        let meminfo = "MemTotal:       24570020 kB\nMemAvailable:    2097152 kB\n";
        assert_eq!(available(meminfo), Some(2 * 1024 * 1024 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_failed_check_names_the_variable_with_the_minimum() {
        memory(0.0).unwrap();
        disk(0.0).unwrap();
        let error = memory(1e9).unwrap_err().to_string();
        assert!(
            error.ends_with("but RUNPOD_MIN_MEMORY_GB requires 1000000000"),
            "{error}"
        );
        let error = disk(101.0).unwrap_err().to_string();
        assert!(
            error.ends_with("but RUNPOD_MIN_DISK_PERCENT requires 101%"),
            "{error}"
        );
    }
}
