//! The response to a take.

use std::borrow::Cow;

use super::job::{Job, read_id, without_bom};

/// The response to a take: zero or more jobs.
///
/// An element that is not a valid job does not affect the others, even if it is not valid JSON.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct TakenJobs {
    /// The jobs to run.
    pub jobs: Vec<Job>,
    /// The jobs that cannot be run. Their result is an error.
    pub invalid: Vec<InvalidJob>,
    /// The elements without an id. No result can be posted for them.
    pub ignored: Option<IgnoredElements>,
}

/// A job that cannot be run, but whose id is known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidJob {
    /// The job's id.
    pub id: String,
    /// The reason why it cannot be run.
    pub why: String,
}

/// The elements of a take in which no id can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IgnoredElements {
    /// The number of elements.
    pub count: usize,
    /// The reason why the first of them is ignored.
    pub why: String,
}

impl TakenJobs {
    /// Parses the body of a response: an object, an array of objects, `null`, or nothing. A byte order mark is skipped.
    ///
    /// # Errors
    /// Returns an error if the body is something else.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let body = without_bom(body);
        // Usually all elements are valid, and the body, which may be large, is parsed once.
        let jobs = match body.first() {
            None => Ok(Vec::new()),
            Some(b'{') => serde_json::from_slice(body).map(|job| vec![job]),
            Some(b'n') => serde_json::from_slice::<()>(body).map(|()| Vec::new()),
            Some(_) => serde_json::from_slice(body),
        };
        match jobs {
            Ok(jobs) => Ok(Self {
                jobs,
                ..Self::default()
            }),
            Err(_) if body.starts_with(b"{") || body.starts_with(b"[") => {
                Ok(Self::one_by_one(body))
            }
            Err(error) => Err(error),
        }
    }

    fn one_by_one(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let is_utf8 = matches!(text, Cow::Borrowed(_));
        let mut taken = Self::default();
        // In a body that is not UTF-8, the replacement characters stand for the bytes that are not.
        let is_damaged = |text: &str| !is_utf8 && text.contains(char::REPLACEMENT_CHARACTER);
        for element in elements(&text) {
            let why = match serde_json::from_str::<Job>(element) {
                Ok(job) if !is_damaged(element) => {
                    taken.jobs.push(job);
                    continue;
                }
                Ok(_) => "it is not valid UTF-8".to_owned(),
                Err(error) => error.to_string(),
            };
            if let Some(id) = find_id(element).filter(|id| !is_damaged(id)) {
                taken.invalid.push(InvalidJob { id, why });
            } else {
                let ignored = IgnoredElements { count: 0, why };
                taken.ignored.get_or_insert(ignored).count += 1;
            }
        }
        taken
    }
}

/// Splits the text of an array, or of one or more objects, into its elements. They need not be valid JSON, for example
/// because of a NaN: only strings and brackets are recognized.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.strip_prefix('[').unwrap_or(text);
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        if rest.is_empty() || rest.starts_with(']') {
            return None;
        }
        let (element, after) = rest.split_at(value_end(rest));
        rest = after;
        Some(element.trim_ascii_end())
    })
}

/// Returns the id of an object, as [`Job`] reads it. The object need not be valid JSON.
fn find_id(object: &str) -> Option<String> {
    let mut rest = object.strip_prefix('{')?;
    let mut id = None;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        if rest.is_empty() || rest.starts_with('}') {
            return id;
        }
        let (key, after) = rest.split_at(value_end(rest));
        rest = after.trim_ascii_start();
        let Some(after) = rest.strip_prefix(':') else {
            continue;
        };
        let value = after.trim_ascii_start();
        let (value, after) = value.split_at(value_end(value));
        if serde_json::from_str::<String>(key).is_ok_and(|key| key == "id") {
            id = read_id(value.trim_ascii_end()).or(id);
        }
        rest = after;
    }
}

/// Returns the length of the value at the start of a text: up to the end of the string, the matching bracket, or the next
/// delimiter. At least 1, unless the text is empty.
fn value_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return (at + depth).max(1),
            b'}' | b']' => depth -= 1,
            b',' | b':' if depth == 0 => return at.max(1),
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Returns the position after the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the ids of the jobs to run, the ids of the invalid jobs, and the number of ignored elements.
    fn read(body: impl AsRef<[u8]>) -> (Vec<String>, Vec<String>, usize) {
        let taken = TakenJobs::parse(body.as_ref()).unwrap();
        (
            taken.jobs.into_iter().map(|job| job.id).collect(),
            taken.invalid.into_iter().map(|job| job.id).collect(),
            taken.ignored.map_or(0, |ignored| ignored.count),
        )
    }

    fn expected(
        jobs: &[&str],
        invalid: &[&str],
        ignored: usize,
    ) -> (Vec<String>, Vec<String>, usize) {
        let owned = |ids: &[&str]| ids.iter().map(ToString::to_string).collect();
        (owned(jobs), owned(invalid), ignored)
    }

    #[test]
    fn a_response_may_be_jobs_or_one_or_none() {
        let one = r#"{"id":"a","input":{}}"#;
        assert_eq!(read(one), expected(&["a"], &[], 0));
        assert_eq!(read(format!(" [{one}] ")), expected(&["a"], &[], 0));
        assert_eq!(read(format!("\u{feff}\n{one}")), expected(&["a"], &[], 0));
        for none in ["", " \n", "null", "[]", "\u{feff}null"] {
            assert_eq!(read(none), expected(&[], &[], 0), "{none:?}");
        }
        for bad in ["<html>", "\"no job\"", "7", "nothing"] {
            assert!(TakenJobs::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_element_without_an_id_is_ignored() {
        assert_eq!(read("{}"), expected(&[], &[], 1));
        let body = r#"[{"input":1},{"id":null},{"id":"a"},7,null,[{"id":"b"}],{"id":3}]"#;
        assert_eq!(read(body), expected(&["a", "3"], &[], 5));
        let taken = TakenJobs::parse(body.as_bytes()).unwrap();
        let why = taken.ignored.unwrap().why;
        assert!(why.contains("no `id`"), "{why}");
    }

    #[test]
    fn an_element_that_is_not_json_does_not_affect_the_others() {
        let good = |id: &str| format!(r#"{{"id":"{id}","input":{{"text":"]}}\\\","}}}}"#);
        for bad in [
            r#"{"id":"bad","input":{"x":NaN}}"#,
            r#"{"input":{"x":-Infinity},"id":"bad"}"#,
            r#"{"id":"bad","input":}"#,
            r#"{"id":"bad","input":{"x":1,}}"#,
            r#"{"id":"bad","input":"say "hi""}"#,
            r#"{"id":"bad","input":"\x"}"#,
            r#"{"id":"bad","input":01}"#,
            r#"{"i\u0064":"bad" "input":1}"#,
            r#"{"id":"other","id":"bad","input":[None, 'a']}"#,
            "{\"id\":\"bad\",\"input\":\"line\nbreak\"}",
        ] {
            let body = format!("[{},{bad} , {}]", good("a"), good("b"));
            assert_eq!(read(&body), expected(&["a", "b"], &["bad"], 0), "{body}");
            assert_eq!(read(bad), expected(&[], &["bad"], 0), "{bad}");
        }
    }

    #[test]
    fn a_text_that_is_not_utf_8_does_not_affect_the_others() {
        let body = b"[{\"id\":\"a\"},{\"id\":\"bad\",\"input\":\"\xff\"},{\"id\":\"\xff\"}]";
        assert_eq!(read(body), expected(&["a"], &["bad"], 1));
        let taken = TakenJobs::parse(body).unwrap();
        assert_eq!(taken.invalid[0].why, "it is not valid UTF-8");
        // A replacement character that the client wrote is not an error.
        assert_eq!(
            read("[{\"id\":\"a\",\"input\":\"\u{fffd}\"}]"),
            expected(&["a"], &[], 0)
        );
    }

    #[test]
    fn a_truncated_response_keeps_what_is_complete() {
        let body = r#"[{"id":"a","input":1},{"id":"b","input":{"text":"[é\""}}]"#;
        assert_eq!(read(body), expected(&["a", "b"], &[], 0));
        for end in 1..body.len() {
            let (jobs, invalid, ignored) = read(&body.as_bytes()[..end]);
            assert_eq!(jobs.contains(&"a".to_owned()), end >= 21, "{end}");
            assert_eq!(
                jobs.contains(&"b".to_owned()),
                end >= body.len() - 1,
                "{end}"
            );
            assert!(jobs.len() + invalid.len() + ignored <= 2, "{end}");
        }
        assert_eq!(read(&body[..45]), expected(&["a"], &["b"], 0));
        // Several objects without an array are elements, too.
        let lines = "{\"id\":\"a\"}\n{\"id\":\"b\"} trailing";
        assert_eq!(read(lines), expected(&["a", "b"], &[], 1));
    }

    #[test]
    fn many_elements_without_an_id_take_little_memory() {
        let body = format!("[{}]", vec!["1"; 100_000].join(","));
        assert_eq!(read(body), expected(&[], &[], 100_000));
    }
}
