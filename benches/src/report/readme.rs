//! The short table in a README.

use std::path::Path;

use crate::error::Result;

const BEGIN: &str = "<!-- benchmark: begin -->\n";
const END: &str = "<!-- benchmark: end -->\n";

/// Replaces the text between the marks of a file.
pub(crate) fn update(path: &Path, text: &str) -> Result<()> {
    let before =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let after = between(&before, text).ok_or_else(|| {
        let (begin, end) = (BEGIN.trim_end(), END.trim_end());
        format!("{} has no `{begin}` followed by `{end}`", path.display())
    })?;
    Ok(std::fs::write(path, after)?)
}

fn between(file: &str, text: &str) -> Option<String> {
    let (before, rest) = file.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{text}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_marks_is_replaced() {
        let file = format!("a\n{BEGIN}old\n{END}b\n");
        let new = format!("a\n{BEGIN}new\n{END}b\n");
        assert_eq!(between(&file, "new\n"), Some(new));
        assert_eq!(between(&format!("{END}{BEGIN}"), "new"), None);
    }
}
