//! Safe file names. They come from outside and are used on disk.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::files::numbered::numbered;

/// The name of a file without a name of its own.
pub(super) const UNNAMED: &str = "file";
/// The maximum length of a name, in bytes. It leaves room for a number within the 255 bytes that file systems allow.
const LONGEST: usize = 200;
/// The maximum number of files, or of folders, with the same name in one folder.
const MOST_OF_A_NAME: usize = 10_000;
/// The maximum length of an extension that is kept when a name is shortened, in bytes.
const LONGEST_EXTENSION: usize = 20;

/// Returns the last component of `name` as a name that is safe in any folder: it is not a path, not hidden, and
/// contains no characters with a special meaning on some operating system.
pub(super) fn safe(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).find(|part| !part.is_empty())?;
    let unsafe_char =
        |letter: char| letter.is_control() || reorders(letter) || r#"<>:"|?*"#.contains(letter);
    let clean = last.replace(unsafe_char, "_");
    let clean = clean.trim_matches(|letter: char| letter == '.' || letter.is_whitespace());
    let clean = shortened(clean);
    (!clean.is_empty()).then_some(clean)
}

/// Returns whether a character changes the order or the visibility of those around it, so that a name may look like
/// another one.
fn reorders(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Creates a file or folder called `name`, or a numbered one if that name is taken. Calls `make` with one path after
/// the other; `make` must fail if the path exists, even if it is a link. `what` is the plural noun for the error.
pub(super) fn make_new<T>(
    what: &str,
    inside: &Path,
    name: &str,
    make: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<(T, PathBuf)> {
    for number in 1..=MOST_OF_A_NAME {
        let path = inside.join(numbered(name, number));
        match make(&path) {
            Ok(new) => return Ok((new, path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let problem = format!("there are already {MOST_OF_A_NAME} {what} like `{name}`");
    Err(io::Error::new(ErrorKind::AlreadyExists, problem))
}

/// Shortens a name, but keeps its extension.
fn shortened(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if extension.len() <= LONGEST_EXTENSION => {
            (stem, format!(".{extension}"))
        }
        _ => (name, String::new()),
    };
    let end = stem.floor_char_boundary(LONGEST - extension.len());
    format!("{}{extension}", &stem[..end])
}

/// Returns the name at the end of a URL's path.
pub(super) fn of_url(url: &Url) -> Option<String> {
    let last = url.path_segments()?.rfind(|part| !part.is_empty())?;
    safe(&percent_decode_str(last).decode_utf8_lossy())
}

/// Returns the name in a `Content-Disposition` header. `filename*` takes precedence over `filename` (RFC 6266).
pub(super) fn of_disposition(header: &str) -> Option<String> {
    let mut plain = None;
    for parameter in parameters(header).into_iter().skip(1) {
        let Some((key, value)) = parameter.split_once('=') else {
            continue;
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "filename*" => {
                let mut parts = value.trim().splitn(3, '\'');
                let (charset, _language, text) = (parts.next(), parts.next(), parts.next());
                if let (Some(charset), Some(text)) = (charset, text)
                    && charset.eq_ignore_ascii_case("utf-8")
                    && let Some(name) = safe(&percent_decode_str(text).decode_utf8_lossy())
                {
                    return Some(name);
                }
            }
            "filename" => plain = plain.or_else(|| safe(&unquoted(value.trim()))),
            _ => {}
        }
    }
    plain
}

/// Splits a header at each `;` outside of quotes.
fn parameters(header: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let split = |letter: char| {
        let ends = letter == ';' && !quoted;
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        ends
    };
    header.split(split).collect()
}

/// Returns the content of a quoted string, or the text itself if it is not quoted.
fn unquoted(value: &str) -> String {
    let inside = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let Some(inside) = inside else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(inside.len());
    let mut letters = inside.chars();
    while let Some(letter) = letters.next() {
        // As in browsers, `\` escapes only a quote or another `\`.
        match letter {
            '\\' if letters.as_str().starts_with(['"', '\\']) => text.extend(letters.next()),
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_never_a_path() {
        for (given, expected) in [
            ("cat.png", Some("cat.png")),
            ("../../etc/passwd", Some("passwd")),
            ("/etc/passwd", Some("passwd")),
            (r"..\..\boot.ini", Some("boot.ini")),
            (r"C:\boot.ini", Some("boot.ini")),
            ("C:boot.ini", Some("C_boot.ini")),
            ("a/b/", Some("b")),
            ("..", None),
            ("...", None),
            ("", None),
            ("/", None),
            (".bashrc", Some("bashrc")),
            ("..hidden..", Some("hidden")),
            ("nul\0byte\n.png", Some("nul_byte_.png")),
            ("Büro – 1.pdf", Some("Büro – 1.pdf")),
            (" a ", Some("a")),
            (" .bashrc", Some("bashrc")),
            ("photo\u{202e}gnp.exe", Some("photo_gnp.exe")),
            ("\u{feff}a\u{200b}", Some("_a_")),
            (". . x. .", Some("x")),
        ] {
            assert_eq!(safe(given).as_deref(), expected, "{given:?}");
        }
        let long = safe(&format!("{}ü.tar.gz", "ä".repeat(500))).unwrap();
        assert!(long.len() <= LONGEST && long.ends_with("ä.gz"), "{long}");
        assert!(safe(&"x".repeat(999)).unwrap().len() <= LONGEST);
    }

    #[test]
    fn the_file_name_comes_from_content_disposition() {
        for (header, expected) in [
            (r#"attachment; filename="cat.png""#, Some("cat.png")),
            ("attachment; filename=cat.png", Some("cat.png")),
            ("ATTACHMENT; FileName=cat.png", Some("cat.png")),
            (r#"inline; filename="a;b.png"; x=1"#, Some("a;b.png")),
            (r#"inline; filename="a \"b\".png""#, Some("a _b_.png")),
            (r#"attachment; filename="../../up""#, Some("up")),
            (r#"attachment; filename="..\..\up""#, Some("up")),
            (
                "attachment; filename=plain; filename*=UTF-8''f%C3%BCr%20dich",
                Some("für dich"),
            ),
            ("attachment; filename*=UTF-8''..%2F..%2Fup", Some("up")),
            ("attachment; filename*=UTF-8''..; filename=x", Some("x")),
            ("attachment", None),
            ("filename=x", None),
            (r#"attachment; filename="""#, None),
        ] {
            assert_eq!(of_disposition(header).as_deref(), expected, "{header}");
        }
    }

    #[test]
    fn the_file_name_comes_from_the_url() {
        let name = |url: &str| of_url(&Url::parse(url).unwrap());
        assert_eq!(name("http://h/a/cat.png?x=/y").as_deref(), Some("cat.png"));
        assert_eq!(name("http://h/a%2F..%2Fup").as_deref(), Some("up"));
        assert_eq!(name("http://h/"), None);
        assert_eq!(name("http://h/%2e%2e"), None);
    }
}
