//! Why a job failed, and how that is spelled on the wire.

use std::any::{Any, type_name};
use std::cell::RefCell;
use std::error::Error as StdError;
use std::fmt;
use std::panic;
use std::sync::Once;

use podwork_protocol::worker::ErrorReport;

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

/// Why a handler failed its job.
///
/// Any error converts into it, texts and boxed errors too, so `?` works on all of them. It is no [`std::error::Error`]
/// itself; that is what lets it take in every type that is one.
///
/// ```
/// # fn load() -> podwork::Result<u32> {
/// let text = std::fs::read_to_string("/no/such/file")?; // any error
/// let number = text.parse()?;
/// if number == 0 {
///     return Err("zero is no number of steps".into()); // a text
/// }
/// # Ok(number)
/// # }
/// # assert!(load().is_err());
/// ```
///
/// Of a message over 16 KiB, beginning and end are kept.
#[derive(Clone)]
pub struct HandlerError {
    kind: String,
    message: String,
    causes: Vec<String>,
    /// It says that memory ran out.
    memory: bool,
    /// Another job of its batch has the same, and tells the breaker.
    repeated: bool,
}

impl HandlerError {
    /// An error of a given kind, for what the runtime itself has to say of a job.
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind: kind.to_owned(),
            memory: tells_of_memory(&message),
            message: short(message, LONGEST_MESSAGE),
            causes: Vec::new(),
            repeated: false,
        }
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
        Self::new("panic", message)
    }

    /// What is over a limit of the platform; both in bytes.
    pub(crate) fn too_large(what: &str, size: usize, limit: usize) -> Self {
        let kind = format!("{}_too_large", what.split(' ').next().unwrap_or(what));
        let advice = "upload it and return its URL instead";
        Self::new(
            &kind,
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
        Some(self.memory || self.kind == "panic")
    }

    /// What happened, in one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The type of the error it was made from, or the runtime's word for what went wrong (`panic`, `invalid_input`, …).
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The error as the platform and its clients see it. Unless `details` is set, the host name and the causes below
    /// the message stay inside the worker: they may tell more than a client should know.
    pub(crate) fn report(&self, identity: &Identity, details: bool) -> ErrorReport {
        let mut report = ErrorReport::new(&self.kind, &self.message);
        report.hostname = "unknown".to_owned();
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
        let mut failure = Self::new(type_name::<E>(), error.to_string());
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
    fn any_error_converts_with_its_type_and_causes() {
        let error = HandlerError::from(outer());
        assert!(error.kind().ends_with("Outer"), "{}", error.kind());
        assert_eq!(
            error.trace(),
            "the model did not load\ncaused by: invalid digit found in string"
        );
        assert_eq!(HandlerError::from("a text").message(), "a text");
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
