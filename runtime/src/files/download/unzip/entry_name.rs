//! The names of archive entries: as paths, and as errors show them.

use std::path::PathBuf;

/// The maximum number of components in an entry's path. Folders nested that deeply can still be removed.
const MAX_PARTS: usize = 64;

/// Returns an entry's name as a path that stays inside the target folder. A folder may be the target folder itself.
pub(super) fn relative(name: &str, is_folder: bool) -> Result<PathBuf, &'static str> {
    if name.contains('\0') {
        return Err("has a NUL byte in its name");
    }
    // Archives made on Windows may contain either separator.
    let parts = name.split(['/', '\\']);
    let parts: Vec<&str> = parts.filter(|part| !["", "."].contains(part)).collect();
    let drive = matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    let nothing = parts.is_empty() && !is_folder;
    if name.starts_with(['/', '\\']) || drive || parts.contains(&"..") || nothing {
        return Err("would be extracted outside the target folder");
    }
    if parts.len() > MAX_PARTS {
        return Err("is nested in too many folders");
    }
    Ok(parts.iter().collect())
}

/// Returns a name in a printable form, shortened if necessary.
pub(super) fn shown(name: &str) -> String {
    let end = name.floor_char_boundary(200);
    name[..end].escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn archive_entries_stay_inside_the_folder() {
        for (name, expected) in [
            ("a", Some("a")),
            ("a/b.txt", Some("a/b.txt")),
            ("./a//b/./c", Some("a/b/c")),
            (r"a\b.txt", Some("a/b.txt")),
            ("...", Some("...")),
            ("9:16.png", Some("9:16.png")),
            ("1:30pm.wav", Some("1:30pm.wav")),
            ("a:b", None),
            ("..", None),
            ("a/../b", None),
            ("../a", None),
            (r"..\a", None),
            (r"a\..\..\b", None),
            ("/etc/passwd", None),
            (r"\a", None),
            (r"\\host\share\a", None),
            (r"C:\a", None),
            ("C:a", None),
            ("a\0b", None),
            ("", None),
            (".", None),
        ] {
            let found = relative(name, false).ok();
            assert_eq!(found.as_deref(), expected.map(Path::new), "{name:?}");
        }
        for (name, good) in [("./", true), (".", true), ("/", false), ("../", false)] {
            assert_eq!(relative(name, true).is_ok(), good, "{name:?}");
        }
    }
}
