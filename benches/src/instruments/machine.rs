//! The machine, the date and the versions of a run.

use std::fmt;
use std::process::Command;
use std::thread::available_parallelism;

use crate::contenders::programs::OFFICIAL;
use crate::error::Result;

/// The machine, the date and the versions of a run.
#[derive(Debug)]
pub(crate) struct Machine {
    date: String,
    cores: usize,
    cpu: String,
    memory: String,
    /// The load average before the first run.
    load: String,
    rustc: String,
}

impl Machine {
    /// Describes this machine.
    pub(crate) fn this() -> Result<Self> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let kib =
            member(&memory, "MemTotal").and_then(|size| size.strip_suffix(" kB")?.parse().ok());
        Ok(Self {
            date: said("date", &["-u", "+%Y-%m-%d"])?,
            cores: available_parallelism()?.get(),
            cpu: member(&cpus, "model name")
                .unwrap_or("unknown CPU")
                .to_owned(),
            memory: kib.map_or("unknown memory".to_owned(), |kib: u64| {
                format!("{} GiB", (kib + 512 * 1024) / (1024 * 1024))
            }),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            rustc: said("rustc", &["--version"])?,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            date,
            cores,
            cpu,
            memory,
            load,
            rustc,
        } = self;
        let version = env!("CARGO_PKG_VERSION");
        write!(
            f,
            "{date}, {cores} cores of {cpu}, {memory}, load {load} before the first run; podwork {version}, {OFFICIAL}, {rustc}"
        )
    }
}

/// Returns the value of the first `name: value` line.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut members = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = members.find(|(key, _)| key.trim() == name)?;
    Some(value.trim())
}

fn said(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_members_are_found_by_their_full_name() {
        let text = "model\t\t: 1\nmodel name\t: AMD EPYC\nMemTotal:  24 kB\n";
        assert_eq!(member(text, "model name"), Some("AMD EPYC"));
        assert_eq!(member(text, "MemTotal"), Some("24 kB"));
        assert_eq!(member(text, "model n"), None);
    }
}
