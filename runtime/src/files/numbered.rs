//! Numbered names, for files whose name is already taken.

/// Extensions of compressed single files, which keep the extension of the file inside: `scan.nii.gz`.
const PACKED: [&str; 4] = ["gz", "bz2", "xz", "zst"];

/// Adds a number before the extension of a name: `a/cat-2.png`. Number 1 leaves the name unchanged.
pub(super) fn numbered(name: &str, number: usize) -> String {
    if number == 1 {
        return name.to_owned();
    }
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (stem, ending) = name.split_at(last + ending(&name[last..]));
    format!("{stem}-{number}{ending}")
}

/// Returns the index at which the extension of a name begins.
fn ending(name: &str) -> usize {
    // A leading dot marks a hidden file, not an extension.
    let dot = |name: &str| name.rfind('.').filter(|at| *at > 0);
    let Some(last) = dot(name) else {
        return name.len();
    };
    let inside = dot(&name[..last]).filter(|at| {
        // `.tar.gz` is one extension, but in `.0.gz` the `.0` belongs to the stem.
        PACKED.contains(&&name[last + 1..]) && name[at + 1..].starts_with(char::is_alphabetic)
    });
    inside.unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_file_name_keeps_its_extension() {
        for (name, expected) in [
            ("cat.png", "cat-2.png"),
            ("cat", "cat-2"),
            ("a.b/cat", "a.b/cat-2"),
            ("a.b/cat.tar.gz", "a.b/cat-2.tar.gz"),
            ("scan.nii.gz", "scan-2.nii.gz"),
            ("sd_xl_1.0.safetensors", "sd_xl_1.0-2.safetensors"),
            ("sd_1.0.gz", "sd_1.0-2.gz"),
            (".env", ".env-2"),
            ("a/.env", "a/.env-2"),
            (".tar.gz", ".tar-2.gz"),
            ("x.", "x-2."),
        ] {
            assert_eq!(numbered(name, 2), expected);
            assert_eq!(numbered(name, 1), name);
        }
    }
}
