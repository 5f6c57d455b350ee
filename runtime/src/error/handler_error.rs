//! Why a job failed, and how that is spelled on the wire.

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::error::Error as StdError;
use std::fmt;
use std::panic;
use std::sync::Once;
use std::time::Duration;

use podwork_protocol::worker::ErrorReport;

use super::outcome::JobOutcome;

/// What a handler returns: its output, or the error that fails the job.
pub type Result<T, E = HandlerError> = std::result::Result<T, E>;

/// How the libraries of GPUs and the operating system say that memory ran out, in lower case.
const OUT_OF_MEMORY: [&str; 5] = [
    "out of memory",
    "out_of_memory",
    "outofmemory",
    "cannot allocate memory",
    "memory allocation failed",
];

/// Most bytes of an error's message, and of each of its causes: it may repeat what a client sent, and goes to clients,
/// logs and traces.
const LONGEST_MESSAGE: usize = 16 * 1024;
/// Most causes that are kept.
const MOST_CAUSES: usize = 16;

/// The error that fails a job.
///
/// Any error converts into it, also texts and boxed errors, so `?` works on all of them. It does not implement
/// [`std::error::Error`] itself; that is what allows the conversion from every type that does.
///
/// ```
/// use podwork::HandlerError;
///
/// # fn load() -> podwork::Result<u32> {
/// let text = std::fs::read_to_string("/no/such/file")?; // any error
/// let number = text.parse()?;
/// if number == 0 {
///     return Err("the number of steps must not be zero".into()); // a text
/// }
/// if number > 1000 {
///     return Err(HandlerError::new("too_many_steps", format!("{number} steps, and 1000 is the limit")));
/// }
/// # Ok(number)
/// # }
/// # assert!(load().is_err());
/// ```
///
/// A message over 16 KiB loses its middle.
#[derive(Clone)]
pub struct HandlerError {
    kind: Cow<'static, str>,
    message: String,
    causes: Vec<String>,
    /// Never [`JobOutcome::Completed`].
    outcome: JobOutcome,
    /// The message or a cause says that memory ran out.
    memory: bool,
    /// Another job of the same batch carries the same error and is counted by the breaker.
    repeated: bool,
}

impl HandlerError {
    /// An error with a `kind` of your own: a short, stable name such as `out_of_credit`, which clients read as
    /// `error_type`.
    pub fn new(kind: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind: kind.into(),
            memory: tells_of_memory(&message),
            message: short(message, LONGEST_MESSAGE),
            causes: Vec::new(),
            outcome: JobOutcome::Failed,
            repeated: false,
        }
    }

    fn with_outcome(self, outcome: JobOutcome) -> Self {
        Self { outcome, ..self }
    }

    /// The job ran longer than `limit`, the worker's own.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        let message =
            format!("the job did not end within {limit:?}, the most that its worker allows");
        Self::new("timeout", message).with_outcome(JobOutcome::TimedOut)
    }

    /// The worker's time was over before the job's.
    pub(crate) fn interrupted() -> Self {
        Self::new("shutdown", "the worker had to end before the job did")
            .with_outcome(JobOutcome::Interrupted)
    }

    /// The platform refused a chunk for good.
    pub(crate) fn chunk_refused(why: &str) -> Self {
        let message = format!("the platform did not accept a chunk: {why}");
        Self::new("chunk_refused", message).with_outcome(JobOutcome::Refused)
    }

    /// The platform refused the result for good.
    pub(crate) fn result_refused(why: &str) -> Self {
        let message = format!("the platform did not accept the job's result: {why}");
        Self::new("result_refused", message).with_outcome(JobOutcome::Refused)
    }

    /// The job was cancelled, so nobody sees this one.
    pub(crate) fn cancelled() -> Self {
        Self::new("closed", "the job was stopped").with_outcome(JobOutcome::Cancelled)
    }

    /// The panic that `payload` came from, with the place the hook of [`note_panics`] saw on this thread.
    pub(crate) fn panic(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "the panic carried no text".to_owned());
        let place = PANIC_PLACE.take();
        let message = match &place {
            Some(place) => format!("panicked at {place}: {message}"),
            None => format!("panicked: {message}"),
        };
        Self::new("panic", message).with_outcome(JobOutcome::Panicked)
    }

    /// What is over a limit of the platform; both in bytes.
    pub(crate) fn too_large(what: &str, size: usize, limit: usize) -> Self {
        let kind = format!("{}_too_large", what.split(' ').next().unwrap_or(what));
        let advice = "upload it and return its URL instead";
        Self::new(
            kind,
            format!("the {what} is {size} bytes, and the platform takes {limit} at most; {advice}"),
        )
    }

    /// An output that is over the limit, and could not be uploaded instead.
    #[cfg(feature = "upload")]
    pub(crate) fn too_large_still(size: usize, limit: usize, why: Self) -> Self {
        let message = format!(
            "the output is {size} bytes, and the platform takes {limit} at most; its upload failed: {}",
            why.message
        );
        Self {
            message,
            causes: why.causes,
            memory: why.memory,
            ..Self::too_large("output", size, limit)
        }
    }

    /// What failed a whole batch, and so each of its jobs.
    pub(crate) fn in_batch(mut self, jobs: usize) -> Self {
        if jobs > 1 {
            self.message = format!("{} (in a batch of {jobs} jobs)", self.message);
        }
        self
    }

    /// The same, for the further jobs of its batch.
    pub(crate) fn repeated(self) -> Self {
        Self {
            repeated: true,
            ..self
        }
    }

    /// Whether this may be the machine's doing rather than the job's: a panic, or memory that ran out. `None` where
    /// another job has told it already: what fails a batch happens once.
    pub(crate) fn is_breakdown(&self) -> Option<bool> {
        if self.repeated {
            return None;
        }
        Some(self.memory || self.outcome == JobOutcome::Panicked)
    }

    /// What this error makes of its job.
    pub(crate) fn outcome(&self) -> JobOutcome {
        self.outcome
    }

    /// The message: what happened, in one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The stable name of what went wrong, which clients read as `error_type`: the one given to
    /// [`new`](Self::new), one of the runtime's own (`panic`, `invalid_input`, `timeout`, `download_failed` …), or
    /// `handler_error` for errors of other types.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The error as the platform and its clients see it. Unless `details` is set, the host name and the causes below
    /// the message stay inside the worker: they may tell more than a client should know.
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

    /// The message and its causes, a line each.
    pub(crate) fn trace(&self) -> String {
        let causes = self
            .causes
            .iter()
            .map(|cause| format!("\ncaused by: {cause}"));
        std::iter::once(self.message.clone())
            .chain(causes)
            .collect()
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let error = error.into();
        let mut failure = Self::new(kind_of(&*error), error.to_string());
        let mut cause = error.source();
        while let Some(deeper) = cause.filter(|_| failure.causes.len() < MOST_CAUSES) {
            let text = deeper.to_string();
            failure.memory |= tells_of_memory(&text);
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

/// The kind of errors whose type has none of its own.
const OTHER: &str = "handler_error";

/// A type of errors that has a kind of its own, registered by the room that defines the type.
pub(crate) struct KnownError {
    pub(crate) kind: &'static str,
    pub(crate) is: fn(&(dyn StdError + 'static)) -> bool,
}

inventory::collect!(KnownError);

/// Gives errors of the type `$error` the kind `$kind`.
#[cfg(any(feature = "download", feature = "upload", all(feature = "cache", unix)))]
macro_rules! error_kind {
    ($error:ty, $kind:literal) => {
        inventory::submit!(crate::error::handler_error::KnownError {
            kind: $kind,
            is: |error| error.is::<$error>(),
        });
    };
}
#[cfg(any(feature = "download", feature = "upload", all(feature = "cache", unix)))]
pub(crate) use error_kind;

fn kind_of(error: &(dyn StdError + 'static)) -> &'static str {
    let mut known = inventory::iter::<KnownError>.into_iter();
    known
        .find(|known| (known.is)(error))
        .map_or(OTHER, |known| known.kind)
}

fn tells_of_memory(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    OUT_OF_MEMORY.iter().any(|sign| text.contains(sign))
}

/// A text that is over `most` bytes without its middle: what an error says stands at the beginning and at the end.
pub(crate) fn short(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let head = text.floor_char_boundary(most / 2);
    let tail = text.ceil_char_boundary(text.len() - most / 2);
    format!("{} […] {}", &text[..head], &text[tail..])
}

/// Who reports an error.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) worker_id: String,
    pub(crate) hostname: String,
}

thread_local! {
    static PANIC_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has every panic leave its place in the source where [`HandlerError::panic`] finds it. The hook that was there
/// before still runs.
pub(crate) fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANIC_PLACE.set(info.location().map(ToString::to_string));
            before(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the model did not load")]
    struct Outer(#[source] std::num::ParseIntError);

    fn outer() -> Outer {
        Outer("x".parse::<u8>().unwrap_err())
    }

    fn identity() -> Identity {
        Identity {
            worker_id: "w".to_owned(),
            hostname: "h".to_owned(),
        }
    }

    #[test]
    fn any_error_converts_with_its_causes() {
        let error = HandlerError::from(outer());
        assert_eq!(error.kind(), "handler_error");
        assert_eq!(
            error.trace(),
            "the model did not load\ncaused by: invalid digit found in string"
        );
        assert_eq!(HandlerError::from("a text").message(), "a text");
    }

    #[cfg(feature = "download")]
    #[test]
    fn the_runtimes_own_errors_have_names() {
        use crate::files::{DownloadError, RemoteFile, UnzipError};
        let refused = RemoteFile::new("ftp://example.com/a").unwrap_err();
        assert_eq!(HandlerError::from(refused).kind(), "download_failed");
        let boxed: Box<dyn StdError + Send + Sync> = Box::new(DownloadError::Stopped);
        assert_eq!(HandlerError::from(boxed).kind(), "download_failed");
        let full = UnzipError::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(HandlerError::from(full).kind(), "unzip_failed");
        let own = HandlerError::new("too_many_steps", "1001 steps");
        assert_eq!(own.kind(), "too_many_steps");
    }

    #[test]
    fn a_long_message_loses_its_middle() {
        let long = format!("begin {} end", "ä".repeat(LONGEST_MESSAGE));
        let error = HandlerError::from(long);
        let message = error.message();
        assert!(message.len() < LONGEST_MESSAGE + 16, "{}", message.len());
        assert!(message.starts_with("begin ä") && message.ends_with("ä end"));
        assert_eq!(error.is_breakdown(), Some(false));
        // What it said of the machine is known all the same.
        let half = "x".repeat(LONGEST_MESSAGE);
        let error = HandlerError::from(format!("{half} CUDA out of memory {half}"));
        assert!(!error.message().contains("CUDA"));
        assert_eq!(error.is_breakdown(), Some(true));
    }

    #[test]
    fn details_leave_the_worker_only_when_asked_for() {
        let error = HandlerError::from(outer());
        let closed = error.report(&identity(), false);
        assert_eq!(
            (closed.error_traceback.as_str(), closed.hostname.as_str()),
            ("", "unknown")
        );
        let open = error.report(&identity(), true);
        assert!(open.error_traceback.contains("invalid digit"));
        assert_eq!(open.hostname, "h");
    }

    #[test]
    fn a_panic_tells_its_place() {
        note_panics();
        let payload = panic::catch_unwind(|| panic!("no {}", "memory")).unwrap_err();
        let error = HandlerError::panic(&*payload);
        assert!(
            error
                .message()
                .contains("runtime/src/error/handler_error.rs:"),
            "{error}"
        );
        assert!(error.message().ends_with(": no memory"), "{error}");
    }
}
