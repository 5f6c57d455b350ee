//! The answer of a handler that decides per job whether it answers once or streams.

#[cfg(feature = "schema")]
use std::borrow::Cow;
use std::fmt;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
#[cfg(feature = "schema")]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::error::Result;

/// The return type of a handler that decides per job whether it answers once or streams, as an OpenAI-compatible
/// handler must.
///
/// `T` is the type of the single output, and `C` the type of a chunk; both implement [`serde::Serialize`]. A handler
/// returns a `Reply<T, C>`, or a `Result` of one with any error. The type must have this name in the signature.
///
/// ```
/// use podwork::{Reply, handler, stream};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Prompt {
///     text: String,
///     #[serde(default)]
///     stream: bool,
/// }
///
/// #[handler]
/// async fn shout(prompt: Prompt) -> Reply<String> {
///     if prompt.stream {
///         Reply::stream(stream! {
///             for word in prompt.text.split_inclusive(' ') {
///                 yield word.to_uppercase();
///             }
///         })
///     } else {
///         Reply::once(prompt.text.to_uppercase())
///     }
/// }
/// ```
///
/// In an `async fn`, the stream runs on the async runtime. In a plain `fn`, it runs on the handler's thread, so it may
/// block between its chunks. It cannot borrow the worker's state, so keep in the state what it needs as an
/// [`Arc`](std::sync::Arc), and clone that.
///
/// A job that streams is posted as such, with the same rules as for a handler that always streams; the result of the
/// job is the list of its chunks if [`aggregate_stream`](crate::Worker::aggregate_stream) is set.
#[must_use = "the handler has to return it"]
pub struct Reply<T, C = T>(pub(crate) ReplyKind<T, C>);

pub(crate) enum ReplyKind<T, C> {
    Once(T),
    Stream(BoxStream<'static, Result<C>>),
}

impl<T, C: Send + 'static> Reply<T, C> {
    /// Answers with a single output.
    pub fn once(output: T) -> Self {
        Self(ReplyKind::Once(output))
    }

    /// Answers with a stream of chunks.
    pub fn stream(chunks: impl Stream<Item = C> + Send + 'static) -> Self {
        Self(ReplyKind::Stream(chunks.map(Ok).boxed()))
    }

    /// Answers with a stream of chunks that can fail: the first error ends the stream and fails the job. The chunks
    /// before it stay with the client. [`try_stream!`](crate::try_stream) creates such a stream, in which `?` accepts
    /// any error.
    pub fn try_stream(chunks: impl Stream<Item = Result<C>> + Send + 'static) -> Self {
        Self(ReplyKind::Stream(chunks.boxed()))
    }
}

impl<T, C> fmt::Debug for Reply<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ReplyKind::Once(_) => "Reply::Once",
            ReplyKind::Stream(_) => "Reply::Stream",
        })
    }
}

/// The schema of the output, or of each chunk; of either if they differ.
#[cfg(feature = "schema")]
impl<T: JsonSchema, C: JsonSchema> JsonSchema for Reply<T, C> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        if T::schema_id() == C::schema_id() {
            return T::schema_name();
        }
        format!("Reply_of_{}_or_{}", T::schema_name(), C::schema_name()).into()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("podwork::Reply<{}, {}>", T::schema_id(), C::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if T::schema_id() == C::schema_id() {
            return T::json_schema(generator);
        }
        json_schema!({
            "anyOf": [generator.subschema_for::<T>(), generator.subschema_for::<C>()],
        })
    }
}
