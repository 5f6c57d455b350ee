//! Cargo's list of the files that a binary was built from.

use std::path::{Path, PathBuf};

/// Returns the sources of a binary: those of its package and of all packages that it depends on by path, the files
/// that they include, and the files and folders that their build scripts name by `rerun-if-changed`. Returns `None` if
/// cargo has written no list.
pub(super) fn sources_of(binary: &Path) -> Option<Vec<PathBuf>> {
    let text = std::fs::read_to_string(binary.with_extension("d")).ok()?;
    parse(&text)
}

/// Reads the first rule of a file in the format of `make`: a target, and the files that it depends on. A backslash
/// precedes each space of a path.
fn parse(text: &str) -> Option<Vec<PathBuf>> {
    let (_, sources) = text.lines().next()?.split_once(": ")?;
    let mut paths = vec![String::new()];
    let mut chars = sources.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&' ') => paths.last_mut()?.extend(chars.next()),
            ' ' => paths.push(String::new()),
            c => paths.last_mut()?.push(c),
        }
    }
    paths.retain(|path| !path.is_empty());
    Some(paths.into_iter().map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_spaces_are_read() {
        let text = "/t/debug/w: /w/src/a\\ b.rs  /w/src/main.rs /w/x\\y\n\n/w/src/main.rs:\n";
        let expected = ["/w/src/a b.rs", "/w/src/main.rs", "/w/x\\y"].map(PathBuf::from);
        assert_eq!(parse(text), Some(expected.to_vec()));
        assert_eq!(parse("/t/w:"), None);
        assert_eq!(parse(""), None);
    }
}
