//! The status of a process, as Linux reports it.

/// Returns a number of `/proc/ID/status`, such as `Threads`, or `VmRSS` in kB.
///
/// # Panics
/// Panics if the process or the number does not exist.
#[must_use]
pub fn process_status(id: u32, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
    let values = status.lines().filter_map(|line| line.split_once(':'));
    let mut values = values.filter(|(found, _)| *found == name);
    let (_, value) = values.next().expect("a member of the status");
    let number = value.trim().trim_end_matches(" kB");
    number.parse().expect("a number")
}
