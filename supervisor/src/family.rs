//! The processes below this one.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, RawPid};

/// Returns all descendants of this process, children first, or nothing where they are unknown: on systems other than
/// Linux, and without the `/proc` of this process's namespace.
pub(crate) fn descendants() -> Vec<Pid> {
    let own = std::process::id();
    let link = fs::read_link("/proc/self");
    if !link.is_ok_and(|link| link == Path::new(&own.to_string())) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut children: HashMap<RawPid, Vec<RawPid>> = HashMap::new();
    for entry in entries.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // A process may end meanwhile.
        let stat = pid.and_then(|_: RawPid| fs::read_to_string(entry.path().join("stat")).ok());
        if let (Some(pid), Some(parent)) = (pid, stat.as_deref().and_then(parent)) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![own.cast_signed()];
    let mut at = 0;
    while let Some(next) = found.get(at) {
        found.extend(children.remove(next).unwrap_or_default());
        at += 1;
    }
    found
        .into_iter()
        .skip(1)
        .filter_map(Pid::from_raw)
        .collect()
}

/// Returns the parent in the text of `/proc/<pid>/stat`, or `None` if the process is a zombie.
fn parent(stat: &str) -> Option<RawPid> {
    // The name of the program is in parentheses, and may contain any character.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| state != "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_whatever_the_name_of_the_program() {
        assert_eq!(parent("7 (sh) S 3 7 7 0 -1"), Some(3));
        assert_eq!(parent("7 (a) b) (c) R 12 7 7"), Some(12));
        assert_eq!(parent("7 (sh) Z 3 7 7"), None);
        assert_eq!(parent("7 (sh"), None);
        assert_eq!(parent(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn children_and_grandchildren_are_found() {
        use std::io::{BufRead as _, BufReader};
        use std::process::{Command, Stdio};

        // Another descriptor, because a shell connects the standard input of background commands to /dev/null.
        let script = "exec 3<&0; sh -c 'echo $$; read line' <&3 & read line";
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let mut grandchild = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut grandchild)
            .unwrap();
        let found = descendants();
        assert!(found.contains(&Pid::from_child(&child)), "{found:?}");
        let grandchild = Pid::from_raw(grandchild.trim().parse().unwrap()).unwrap();
        assert!(found.contains(&grandchild), "{found:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
