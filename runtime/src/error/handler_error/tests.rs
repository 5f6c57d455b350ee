use super::*;

#[derive(Debug, thiserror::Error)]
#[error("failed to load the model")]
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
        "failed to load the model\ncaused by: invalid digit found in string"
    );
    assert_eq!(HandlerError::from("a text").message(), "a text");
}

#[cfg(feature = "download")]
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare the job")]
struct Own(#[from] crate::files::DownloadError);

#[cfg(feature = "download")]
#[test]
fn the_runtimes_own_errors_have_names() {
    use crate::files::{DownloadError, RemoteFile, UnzipError};
    let refused = RemoteFile::new("ftp://example.com/a").unwrap_err();
    assert_eq!(HandlerError::from(refused).kind(), "download_failed");
    let boxed: Box<dyn StdError + Send + Sync> = Box::new(DownloadError::Stopped);
    assert_eq!(HandlerError::from(boxed).kind(), "download_failed");
    let full = UnzipError::Disk {
        source: std::io::ErrorKind::StorageFull.into(),
    };
    assert_eq!(HandlerError::from(full).kind(), "unzip_failed");
    // An error with context, a nested io::Error, and a handler's own error keep the name.
    for error in [
        HandlerError::from(Own(DownloadError::Stopped)),
        HandlerError::from(std::io::Error::other(Own(DownloadError::Stopped))),
    ] {
        assert_eq!(error.kind(), "download_failed");
        assert_eq!(error.message(), "cannot prepare the job");
    }
    let own = HandlerError::new("too_many_steps", "1001 steps");
    assert_eq!(own.kind(), "too_many_steps");
}

#[cfg(all(feature = "upload", feature = "cache", unix))]
#[test]
fn the_errors_of_uploads_and_caches_have_names() {
    use crate::cache::{CacheError, huggingface_snapshot_in};
    use crate::files::UploadError;
    assert_eq!(
        HandlerError::from(UploadError::Stopped).kind(),
        "upload_failed"
    );
    let missing = huggingface_snapshot_in("/no/such/hub", "org/model", None).unwrap_err();
    assert_eq!(HandlerError::from(missing).kind(), "model_not_cached");
    assert_eq!(
        HandlerError::from(CacheError::NoName).kind(),
        "cache_failed"
    );
}

#[test]
fn long_words_are_cut_at_the_end() {
    let payload = "QUJD".repeat(1000);
    let text = format!("invalid type: string \"{payload}\", expected u32 at line 1");
    let cut = format!("\"{}…\",", &payload[..39]);
    assert_eq!(
        short_words(&text, 160),
        format!("invalid type: string {cut} expected u32 at line 1")
    );
    assert_eq!(short_words("a short text", 160), "a short text");
    assert!(short_words(&"ü".repeat(1000), 160).len() < 60);
}

#[test]
fn a_long_message_is_shortened_in_the_middle() {
    let long = format!("begin {} end", "ä".repeat(LONGEST_MESSAGE));
    let error = HandlerError::from(long);
    let message = error.message();
    assert!(message.len() < LONGEST_MESSAGE + 16, "{}", message.len());
    assert!(message.starts_with("begin ä") && message.ends_with("ä end"));
    assert_eq!(error.is_breakdown(), Some(false));
    // A sign of exhausted memory is found even in the part that was cut.
    let half = "x".repeat(LONGEST_MESSAGE);
    let error = HandlerError::from(format!("{half} CUDA out of memory {half}"));
    assert!(!error.message().contains("CUDA"));
    assert_eq!(error.is_breakdown(), Some(true));
}

#[test]
fn error_details_are_sent_only_if_enabled() {
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
fn a_panic_reports_its_location() {
    panics::note();
    let payload = std::panic::catch_unwind(|| panic!("no {}", "memory")).unwrap_err();
    let error = HandlerError::panic(&*payload);
    assert!(
        error
            .message()
            .contains("runtime/src/error/handler_error/tests.rs:"),
        "{error}"
    );
    assert!(error.message().ends_with(": no memory"), "{error}");
}
