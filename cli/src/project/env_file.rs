//! Files of environment variables for the worker, such as `.env`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The file that is read without being named.
pub(crate) const DEFAULT: &str = ".env";

/// Reads a file with lines `NAME=VALUE`.
///
/// Empty lines, lines that start with `#`, and the word `export` are ignored. A value ends at ` #`, and whitespace
/// around it is removed. In single quotes a value is kept as it is. In double quotes it may contain `\n`, `\t`, `\"`,
/// `\\` and `\$`. A quoted value may extend over several lines. Variables in values are not replaced.
///
/// # Errors
/// Returns an error that names the file and the line, but not the value, which may be secret.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let file = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
    parse(&text).with_context(|| format!("invalid file {file}"))
}

fn parse(text: &str) -> Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    let line = |rest: &str| text[..text.len() - rest.len()].lines().count() + 1;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(variables);
        }
        if rest.starts_with('#') {
            rest = after_line(rest);
            continue;
        }
        let number = line(rest);
        let (name, value) = match rest.split_once(['=', '\n']) {
            Some((name, value)) if rest[name.len()..].starts_with('=') => (name, value),
            _ => bail!("line {number}: expected NAME=VALUE"),
        };
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || !name.chars().all(is_valid) {
            bail!("line {number}: invalid name of a variable");
        }
        let (value, after) =
            parse_value(value).with_context(|| format!("line {number}: {name}"))?;
        variables.push((name.to_owned(), value));
        rest = after;
    }
}

/// Returns a value, and the text after its line.
fn parse_value(text: &str) -> Result<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let (value, after) = match text.chars().next() {
        Some('\'') => {
            let quoted = text[1..]
                .split_once('\'')
                .context("missing closing quote `'`")?;
            (quoted.0.to_owned(), quoted.1)
        }
        Some('"') => double_quoted(&text[1..])?,
        _ => {
            let line = text.lines().next().unwrap_or_default();
            let end = line.find(" #").unwrap_or(line.len());
            let end = if line.starts_with('#') { 0 } else { end };
            return Ok((line[..end].trim().to_owned(), after_line(text)));
        }
    };
    let left = after.lines().next().unwrap_or_default().trim();
    if !left.is_empty() && !left.starts_with('#') {
        bail!("unexpected text after the closing quote");
    }
    Ok((value, after_line(after)))
}

fn double_quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, escaped @ ('"' | '\\' | '$'))) => value.push(escaped),
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            c => value.push(c),
        }
    }
    bail!("missing closing quote `\"`")
}

fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, after)| after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    #[test]
    fn values_of_all_forms_are_read() {
        let text = "\u{feff}# a comment\n\nA=1\nexport B = two words # comment\r\nC=\nD='#$x \"q\"'\nE=\"a\\n\\\"b\\\" \\$HOME \\d\" # c\n\
                    F=x#y\nG=a=b==\nH='two\nlines'\nI=#none\nJ=\"é\"\nLAST=end";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", ""),
            ("D", "#$x \"q\""),
            ("E", "a\n\"b\" $HOME \\d"),
            ("F", "x#y"),
            ("G", "a=b=="),
            ("H", "two\nlines"),
            ("I", ""),
            ("J", "é"),
            ("LAST", "end"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(values(text), expected);
        assert_eq!(values(""), []);
        assert_eq!(values("#"), []);
    }

    #[test]
    fn an_error_names_the_line_and_hides_the_value() {
        for (text, wanted) in [
            ("A=1\nsecret", "line 2: expected NAME=VALUE"),
            ("secret\nA=1", "line 1: expected NAME=VALUE"),
            ("\n\n=secret", "line 3: invalid name of a variable"),
            ("A B=secret", "line 1: invalid name of a variable"),
            ("A='secret\nB=1", "line 1: A: missing closing quote `'`"),
            ("A=\"secret\\", "line 1: A: missing closing quote `\"`"),
            (
                "A=\"secret\" secret",
                "line 1: A: unexpected text after the closing quote",
            ),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert_eq!(error, wanted, "{text}");
        }
    }
}
