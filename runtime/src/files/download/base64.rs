//! Base64 in a job's input, without a data URL around it.

/// The beginning of base64 text, and the media type of the files that begin so.
const MEDIA_TYPES: [(&str, &str); 9] = [
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("PHN2Zy", "image/svg+xml"),
    ("JVBERi0", "application/pdf"),
    ("UEsDB", "application/zip"),
    ("SUQz", "audio/mpeg"),
    ("T2dnUw", "audio/ogg"),
];
/// The number of characters by which a text is recognized as base64.
const SAMPLE: usize = 60;

/// Returns the media type of the file that a base64 text contains, by its first bytes.
pub(super) fn media_type(text: &str) -> Option<&'static str> {
    let known = MEDIA_TYPES.iter();
    let mut known = known.filter(|(start, _)| text.starts_with(start));
    known.next().map(|(_, kind)| *kind)
}

/// Returns whether a text is probably base64: long enough to be a file, or the beginning of a known type of file.
pub(super) fn is_base64_like(text: &str) -> bool {
    let mut sample = text.chars().take(SAMPLE);
    // Without spaces: prose consists of letters and spaces, too.
    let fits = sample.all(|letter| is_digit(letter) || "=\r\n".contains(letter));
    fits && (text.len() >= SAMPLE || media_type(text).is_some())
}

/// Returns the data URL of base64 in the standard or the URL-safe alphabet, with or without line breaks.
///
/// # Errors
/// Returns the reason why the text is not base64. The padding is not checked.
pub(super) fn data_url(text: &str) -> Result<String, String> {
    let kind = media_type(text).unwrap_or("application/octet-stream");
    let mut url = String::with_capacity(text.len() + 64);
    for part in ["data:", kind, ";base64,"] {
        url.push_str(part);
    }
    let start = url.len();
    for (index, letter) in text.chars().enumerate() {
        match letter {
            '-' => url.push('+'),
            '_' => url.push('/'),
            _ if is_digit(letter) || letter == '=' => url.push(letter),
            _ if is_space(letter) => {}
            _ => {
                return Err(format!(
                    "base64 has no such character (position {})",
                    index + 1
                ));
            }
        }
    }
    if url.len() == start {
        return Err("it is empty".to_owned());
    }
    Ok(url)
}

fn is_digit(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "+/-_".contains(letter)
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}
