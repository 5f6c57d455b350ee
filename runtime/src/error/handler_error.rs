//! The error that fails a job, and its form on the wire.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use podwork_protocol::failure::causes_of;
use podwork_protocol::worker::ErrorReport;

use super::outcome::JobOutcome;
use super::panics;

/// The result of a handler: its output, or the error that fails the job.
pub type Result<T, E = HandlerError> = std::result::Result<T, E>;

/// Phrases, in lower case, by which GPU libraries and the operating system report that memory ran out.
const OUT_OF_MEMORY: [&str; 5] = [
    "out of memory",
    "out_of_memory",
    "outofmemory",
    "cannot allocate memory",
    "memory allocation failed",
];

/// The maximum length of an error's message and of each of its causes, in bytes. A message may repeat client input, and
/// it goes to clients, logs and traces.
const LONGEST_MESSAGE: usize = 16 * 1024;
/// The maximum number of causes that an error keeps.
const MOST_CAUSES: usize = 16;

/// The error that fails a job.
///
/// Any error converts into it, including strings and boxed errors, so `?` works on all of them. It does not implement
/// [`std::error::Error`] itself, since that would rule out the conversion from every type that does.
///
/// ```
/// use podwork::HandlerError;
///
/// # fn load() -> podwork::Result<u32> {
/// let text = std::fs::read_to_string("/no/such/file")?; // any error
/// let number = text.parse()?;
/// if number == 0 {
///     return Err("the number of steps must be at least 1".into()); // a string
/// }
/// if number > 1000 {
///     return Err(HandlerError::new("too_many_steps", format!("{number} steps exceed the limit of 1000")));
/// }
/// # Ok(number)
/// # }
/// # assert!(load().is_err());
/// ```
///
/// A message longer than 16 KiB is truncated in the middle.
#[derive(Clone)]
pub struct HandlerError {
    kind: Cow<'static, str>,
    message: String,
    causes: Vec<String>,
    /// The place in the user's code that created the error, or converted it with `?`.
    place: Option<&'static Location<'static>>,
    /// The set-up function or fitness check that returned the error.
    function: Option<&'static str>,
    /// Never [`JobOutcome::Completed`].
    outcome: JobOutcome,
    /// The machine ran out of memory or threads.
    exhausted: bool,
    /// Another job of the same batch has the same error, and the breaker counts that one.
    repeated: bool,
}

impl HandlerError {
    /// Creates an error with a `kind` of your own: a short, stable name such as `out_of_credit`, which clients receive
    /// as `error_type`.
    #[track_caller]
    pub fn new(kind: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind: kind.into(),
            exhausted: tells_of_memory(&message),
            message: short(message, LONGEST_MESSAGE),
            causes: Vec::new(),
            place: Some(Location::caller()).filter(|place| is_users(place.file())),
            function: None,
            outcome: JobOutcome::Failed,
            repeated: false,
        }
    }

    /// Adds the name of the function that returned the error.
    pub(crate) fn in_function(self, function: &'static str) -> Self {
        Self {
            function: Some(function),
            ..self
        }
    }

    fn with_outcome(self, outcome: JobOutcome) -> Self {
        Self { outcome, ..self }
    }

    /// Creates the error of a job that ran longer than `limit`, which the worker sets.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        let message = format!("job timed out: it exceeded the worker's limit of {limit:?}");
        Self::new("timeout", message).with_outcome(JobOutcome::TimedOut)
    }

    /// Creates the error of a job that was still unfinished when the worker's grace period ended.
    pub(crate) fn interrupted() -> Self {
        Self::new("shutdown", "the worker shut down before the job finished")
            .with_outcome(JobOutcome::Interrupted)
    }

    /// Creates the error of a job that the platform handed out in a form that cannot be read.
    pub(crate) fn invalid_job(why: &str) -> Self {
        let message = format!("the job arrived in an unreadable form: {why}");
        Self::new("invalid_job", message)
    }

    /// Creates the error of a job whose chunk the platform rejected permanently.
    pub(crate) fn chunk_refused(why: &str) -> Self {
        let message = format!("the platform rejected a chunk: {why}");
        Self::new("chunk_refused", message).with_outcome(JobOutcome::Refused)
    }

    /// Creates the error of a job whose result the platform rejected permanently.
    pub(crate) fn result_refused(why: &str) -> Self {
        let message = format!("the platform rejected the job's result: {why}");
        Self::new("result_refused", message).with_outcome(JobOutcome::Refused)
    }

    /// Creates the error of a cancelled job. It is never posted.
    pub(crate) fn cancelled() -> Self {
        Self::new("closed", "the job was cancelled").with_outcome(JobOutcome::Cancelled)
    }

    /// Creates the error of a panic on this thread from its `payload`.
    pub(crate) fn panic(payload: &(dyn Any + Send)) -> Self {
        Self::panicked(panics::text(payload))
    }

    /// Creates the error of a panic from its [text](panics::text).
    pub(crate) fn panicked(text: String) -> Self {
        Self::new("panic", text).with_outcome(JobOutcome::Panicked)
    }

    /// Creates the error of a job whose handler has no thread to run on.
    pub(crate) fn no_thread(error: impl Into<Self>) -> Self {
        Self {
            exhausted: true,
            ..error.into()
        }
    }

    /// Creates the error of a payload that exceeds a limit of the platform. `size` and `limit` are in bytes.
    pub(crate) fn too_large(what: &str, size: usize, limit: usize) -> Self {
        let kind = format!("{}_too_large", what.split(' ').next().unwrap_or(what));
        let advice = "upload it and return its URL instead";
        Self::new(
            kind,
            format!("the {what} is too large: {size} bytes, limit {limit} bytes; {advice}"),
        )
    }

    /// Creates the error of an output that exceeds the limit and whose upload failed.
    #[cfg(feature = "upload")]
    pub(crate) fn too_large_still(size: usize, limit: usize, why: Self) -> Self {
        let message = format!(
            "the output is too large: {size} bytes, limit {limit} bytes; uploading it instead failed: {}",
            why.message
        );
        Self {
            message,
            causes: why.causes,
            exhausted: why.exhausted,
            ..Self::too_large("output", size, limit)
        }
    }

    /// Adds the size of the batch to an error that fails each job of the batch.
    pub(crate) fn in_batch(mut self, jobs: usize) -> Self {
        if jobs > 1 {
            self.message = format!("{} (in a batch of {jobs} jobs)", self.message);
        }
        self
    }

    /// Marks the copies of an error that go to all jobs of its batch but the first.
    pub(crate) fn repeated(self) -> Self {
        Self {
            repeated: true,
            ..self
        }
    }

    /// Returns whether the machine rather than the job may have caused this error: a panic, or memory or threads that
    /// ran out. Returns `None` if another job of the batch has reported it already: the failure of a batch counts once.
    pub(crate) fn is_breakdown(&self) -> Option<bool> {
        if self.repeated {
            return None;
        }
        Some(self.exhausted || self.outcome == JobOutcome::Panicked)
    }

    /// Returns the outcome that this error gives its job.
    pub(crate) fn outcome(&self) -> JobOutcome {
        self.outcome
    }

    /// Returns the message: what happened, in one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the stable name of the error, which clients receive as `error_type`: the one passed to
    /// [`new`](Self::new), one of the runtime's own (`panic`, `invalid_input`, `timeout`, `download_failed`, …), or
    /// `handler_error` for errors of other types.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the error as the platform and its clients see it. It includes the host name and the causes only if
    /// `details` is set, since they may reveal more than a client should know.
    pub(crate) fn report(&self, identity: &Identity, details: bool) -> ErrorReport {
        let mut report = ErrorReport::new(&*self.kind, &self.message);
        "unknown".clone_into(&mut report.hostname);
        if details {
            report.error_traceback = self.trace();
            report.hostname.clone_from(&identity.hostname);
        }
        report.worker_id.clone_from(&identity.worker_id);
        crate::version::VERSION.clone_into(&mut report.runpod_version);
        report
    }

    /// Returns the message, its causes, and the place in the source that it comes from, one per line. The errors of the
    /// standard library name no files, so the place may be the only hint.
    pub(crate) fn trace(&self) -> String {
        let mut lines = vec![self.message.clone()];
        lines.extend(
            self.causes
                .iter()
                .map(|cause| format!("caused by: {cause}")),
        );
        let place = self
            .place
            .map(|place| format!("at {}:{}", place.file(), place.line()));
        lines.extend(place);
        lines.extend(self.function.map(|function| format!("in {function}")));
        lines.join("\n")
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for HandlerError {
    #[track_caller]
    fn from(error: E) -> Self {
        let error = error.into();
        let mut failure = Self::new(kind_of(&*error), error.to_string());
        let mut cause = error.source();
        while let Some(deeper) = cause.filter(|_| failure.causes.len() < MOST_CAUSES) {
            let text = deeper.to_string();
            failure.exhausted |= tells_of_memory(&text);
            failure.causes.push(short(text, LONGEST_MESSAGE));
            cause = deeper.source();
        }
        failure
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.trace())
    }
}

/// The kind of errors whose type is not registered as a [`KnownError`].
const OTHER: &str = "handler_error";

/// An error type with a kind of its own. The module that defines the type registers it.
pub(crate) struct KnownError {
    pub(crate) kind: &'static str,
    pub(crate) is: fn(&(dyn StdError + 'static)) -> bool,
}

inventory::collect!(KnownError);

/// Gives errors of the type `$error` the kind `$kind`.
macro_rules! error_kind {
    ($error:ty, $kind:literal) => {
        inventory::submit!(crate::error::handler_error::KnownError {
            kind: $kind,
            is: |error| error.is::<$error>(),
        });
    };
}
pub(crate) use error_kind;

/// Returns the kind of an error: that of the first known error among it and its causes. So an error that adds context
/// to one of the runtime's errors has the same kind.
fn kind_of(error: &(dyn StdError + 'static)) -> &'static str {
    let mut kinds = causes_of(error).filter_map(|cause| {
        let mut known = inventory::iter::<KnownError>.into_iter();
        known.find(|known| (known.is)(cause))
    });
    kinds.next().map_or(OTHER, |known| known.kind)
}

/// Returns whether a source file is neither this crate's nor the standard library's.
fn is_users(file: &str) -> bool {
    let own = file!()
        .strip_suffix("error/handler_error.rs")
        .unwrap_or(file!());
    let std = ["/library/core/", "/library/std/", "/library/alloc/"];
    !file.starts_with(own) && !std.iter().any(|part| file.contains(part))
}

fn tells_of_memory(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    OUT_OF_MEMORY.iter().any(|sign| text.contains(sign))
}

/// Cuts the middle out of a text longer than `most` bytes. The beginning and the end of an error message matter most.
pub(crate) fn short(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let head = text.floor_char_boundary(most / 2);
    let tail = text.ceil_char_boundary(text.len() - most / 2);
    format!("{} […] {}", &text[..head], &text[tail..])
}

/// The number of bytes that remain of a word that is too long.
const BEGINNING: usize = 40;

/// Cuts words longer than `most` bytes to their beginning and their last characters, which are often punctuation.
/// Base64 and similar content is one long word.
pub(crate) fn short_words(text: &str, most: usize) -> String {
    let words = text.split_inclusive(char::is_whitespace);
    let cut = words.map(|word| {
        if word.len() <= most {
            return Cow::Borrowed(word);
        }
        let head = word.floor_char_boundary(BEGINNING.min(most));
        let tail = word.ceil_char_boundary(word.len() - 3);
        Cow::Owned(format!("{}…{}", &word[..head], &word[tail..]))
    });
    cut.collect()
}

/// The worker that reports an error.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) worker_id: String,
    pub(crate) hostname: String,
}

#[cfg(test)]
mod tests;
