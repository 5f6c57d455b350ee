//! Replies: one output or a stream of chunks, chosen for each job.

use tokio::runtime::Handle;

use crate::delivery::outbox::Closed;
use crate::error::HandlerError;
use crate::handler::reply::{Reply, ReplyKind};
use crate::handler::{Call, Outcome, Output};

use super::chunks::drive_stream;
use super::output::{FallibleTag, IntoHandlerError, OutputShape, encode};

/// A return type that chooses per job.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `podwork::Reply`",
    label = "not a `podwork::Reply` of outputs",
    note = "return a `podwork::Reply<T, C>`, or a `Result` of one, whose `T` and `C` implement `serde::Serialize`",
    note = "the name `Reply<..>` stands for `podwork::Reply`; use another name for a type of your own, for example \
            `use my::Reply as Answer`"
)]
pub trait Replies {
    /// The type of a single output.
    type Output: Output;
    /// The type of a chunk.
    type Chunk: Output;

    /// Returns the reply, or the error that fails the job.
    fn into_reply(self) -> Result<Reply<Self::Output, Self::Chunk>, HandlerError>;
}

impl<T: Output, C: Output> Replies for Reply<T, C> {
    type Output = T;
    type Chunk = C;

    fn into_reply(self) -> Result<Self, HandlerError> {
        Ok(self)
    }
}

impl<T: Output, C: Output, E: IntoHandlerError> Replies for Result<Reply<T, C>, E> {
    type Output = T;
    type Chunk = C;

    fn into_reply(self) -> Result<Reply<T, C>, HandlerError> {
        self.map_err(Into::into)
    }
}

/// Returns the handler's reply, or its error.
///
/// # Errors
/// Returns the handler's error.
pub fn reply<R: Replies>(returned: R) -> Result<Reply<R::Output, R::Chunk>, HandlerError> {
    returned.into_reply()
}

/// Returns the shape of a reply.
pub fn reply_shape<T, C>(_: &Result<Reply<T, C>, HandlerError>) -> OutputShape<Reply<T, C>> {
    OutputShape::new()
}

/// Returns the output of a reply, or yields its chunks.
///
/// # Errors
/// Returns the handler's error, the first error of a chunk, or an error if the job was cancelled.
pub async fn drive_reply<T: Output, C: Output, S>(
    reply: Result<Reply<T, C>, HandlerError>,
    call: Call<S>,
) -> Outcome {
    match reply?.0 {
        ReplyKind::Once(output) => encode(&output),
        ReplyKind::Stream(chunks) => {
            call.chunks.begin();
            drive_stream(chunks, call, FallibleTag.encoder()).await
        }
    }
}

/// Does the same on the handler's blocking thread. Must be called on a blocking thread of the runtime.
///
/// # Errors
/// As [`drive_reply`].
pub fn drive_reply_on_thread<T: Output, C: Output, S>(
    reply: Result<Reply<T, C>, HandlerError>,
    call: Call<S>,
) -> Outcome {
    let context = call.context();
    Handle::current().block_on(async {
        tokio::select! {
            biased;
            // The outbox of a cancelled job is no longer emptied, so waiting for room alone might never end.
            () = context.cancelled() => Err(Closed.into()),
            outcome = drive_reply(reply, call) => outcome,
        }
    })
}
