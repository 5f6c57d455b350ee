//! The keys of uploads: `<job id>/<name>`.

use crate::files::numbered::numbered;

use super::error::UploadError;

/// The maximum length of a key in S3, in bytes.
const LONGEST: usize = 1024;

/// Returns the key for an upload called `name`, unique within the job. `count` records a name, and returns how often
/// that name has been recorded.
pub(super) fn key(
    job: &str,
    name: &str,
    count: impl Fn(&str) -> usize,
) -> Result<String, UploadError> {
    let refuse = |problem: &str| UploadError::Name {
        name: name.to_owned(),
        problem: problem.to_owned(),
    };
    if name.is_empty() {
        return Err(refuse("it is empty"));
    }
    if name.starts_with('/') {
        return Err(refuse("it starts with a slash"));
    }
    for part in name.split('/') {
        match part {
            "" => {
                return Err(refuse(
                    "it contains an empty part, between or after its slashes",
                ));
            }
            "." | ".." => return Err(refuse("it contains the part `.` or `..`")),
            _ if part.contains('\\') => return Err(refuse("it contains a `\\`")),
            _ if part.contains(char::is_control) => {
                return Err(refuse("it contains a control character"));
            }
            _ => {}
        }
    }
    let folder = folder(job);
    if folder.len() + 1 + name.len() > LONGEST {
        return Err(refuse("it is too long: a key has at most 1024 bytes"));
    }
    let mut number = count(name);
    let mut free = numbered(name, number);
    while number > 1 && count(&free) > 1 {
        // The handler itself has used this numbered name.
        number += 1;
        free = numbered(name, number);
    }
    let key = format!("{folder}/{free}");
    if key.len() > LONGEST {
        return Err(refuse("it is too long: a key has at most 1024 bytes"));
    }
    Ok(key)
}

/// Returns a job's id as the name of a folder. Ids from the platform are unchanged.
fn folder(job: &str) -> String {
    let clean = |letter: char| match letter {
        '-' | '_' | '.' => letter,
        _ if letter.is_ascii_alphanumeric() => letter,
        _ => '_',
    };
    let folder: String = job.chars().map(clean).take(200).collect();
    if folder.chars().all(|letter| letter == '.') {
        return "_".to_owned();
    }
    folder
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_object_key_consists_of_job_id_and_file_name() {
        let key = |job, name| key(job, name, |_| 1).unwrap();
        assert_eq!(key("sync-1f-u1", "cat.png"), "sync-1f-u1/cat.png");
        assert_eq!(key("j", "a/ü b.png"), "j/a/ü b.png");
        assert_eq!(key("../a b", "x"), ".._a_b/x");
        assert_eq!(key("..", "x"), "_/x");
        assert_eq!(key("", "x"), "_/x");
    }

    #[test]
    fn object_keys_are_unique_within_a_job() {
        let told = RefCell::new(HashMap::new());
        let count = |name: &str| {
            let mut told = told.borrow_mut();
            let count = told.entry(name.to_owned()).or_insert(0);
            *count += 1;
            *count
        };
        for (name, expected) in [
            ("a.b/cat.tar.gz", "j/a.b/cat.tar.gz"),
            ("a.b/cat-2.tar.gz", "j/a.b/cat-2.tar.gz"),
            ("a.b/cat.tar.gz", "j/a.b/cat-3.tar.gz"),
            ("a.b/cat.tar.gz", "j/a.b/cat-4.tar.gz"),
            ("a.b/cat-2.tar.gz", "j/a.b/cat-2-3.tar.gz"),
            ("cat", "j/cat"),
            ("cat", "j/cat-2"),
        ] {
            assert_eq!(key("j", name, count).unwrap(), expected);
        }
    }

    #[test]
    fn invalid_object_names_are_refused() {
        let long = "x".repeat(1100);
        for (name, problem) in [
            ("", "it is empty"),
            ("/etc/passwd", "starts with a slash"),
            ("a//b", "an empty part, between"),
            ("a/", "an empty part, between"),
            ("../b", "`.` or `..`"),
            ("a/./b", "`.` or `..`"),
            ("a\\b", "contains a `\\`"),
            ("a\nb", "control character"),
            (&long, "at most 1024 bytes"),
        ] {
            let error = key("j", name, |_| 1).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
