//! Streams and iterators of chunks.

use std::pin::pin;

use futures::{Stream, StreamExt as _};
use podwork_protocol::RawValue;
use tokio::runtime::Handle;
use tokio::task::coop::consume_budget;

use crate::delivery::outbox::{Chunks, Closed};
use crate::handler::{Call, Outcome};

use super::output::encode;

/// Returns the handler's stream, as an opaque type, so that a type that is not a stream causes one compile error only.
pub fn stream<S: Streams>(stream: S) -> impl Stream<Item = S::Item> {
    stream
}

/// A return type for `#[handler(stream)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stream",
    label = "not `futures::Stream`",
    note = "return a stream, or write `#[handler]` without `stream` if this is the handler's one output"
)]
pub trait Streams: Stream {}

#[diagnostic::do_not_recommend]
impl<S: Stream> Streams for S {}

/// Returns the handler's iterator, as an opaque type; see [`stream`].
pub fn iterator<I: Iterates>(items: I) -> impl Iterator<Item = I::Item> {
    items.into_iter()
}

/// A return type for `#[handler(iterator)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an iterator",
    label = "not `IntoIterator`",
    note = "return an iterator, or write `#[handler]` without `iterator` if this is the handler's one output"
)]
pub trait Iterates: IntoIterator {}

#[diagnostic::do_not_recommend]
impl<I: IntoIterator> Iterates for I {}

/// Yields the items of a stream as chunks.
///
/// # Errors
/// Returns the first error of an item, or an error if the job was cancelled.
pub async fn drive_stream<T, S>(
    stream: impl Stream<Item = T>,
    call: Call<S>,
    encode: fn(T) -> Outcome,
) -> Outcome {
    let mut chunks = call.chunks;
    let mut stream = pin!(stream);
    while let Some(item) = stream.next().await {
        let chunk = encode(item)?;
        chunks.push(chunk).await?;
        // A stream that never waits would starve other tasks, and could not be cancelled.
        consume_budget().await;
    }
    all_chunks(chunks)
}

/// Yields the items of an iterator as chunks. Must be called on a blocking thread of the runtime.
///
/// # Errors
/// Returns the first error of an item, or an error if the job was cancelled.
pub fn drive_iterator<T, S>(
    items: impl Iterator<Item = T>,
    call: Call<S>,
    encode: fn(T) -> Outcome,
) -> Outcome {
    let context = call.context();
    let mut chunks = call.chunks;
    let runtime = Handle::current();
    for item in items {
        if context.is_cancelled() {
            return Err(Closed.into());
        }
        let chunk = encode(item)?;
        // The outbox of a cancelled job is no longer emptied, so waiting for room alone might never end.
        runtime.block_on(async {
            tokio::select! {
                biased;
                pushed = chunks.push(chunk) => pushed,
                () = context.cancelled() => Err(Closed.into()),
            }
        })?;
    }
    all_chunks(chunks)
}

fn all_chunks(chunks: Chunks) -> Outcome {
    encode::<Vec<Box<RawValue>>>(&chunks.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::{Map, json};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::delivery::outbox::{MAX_CHUNKS, Outbox};
    use crate::handler::Context;
    use crate::handler::json::to_raw_value;
    use crate::macro_support::{PlainShape as _, shape};

    fn call() -> (Call<()>, Arc<Outbox>, CancellationToken) {
        let outbox = Arc::new(Outbox::default());
        let cancelled = CancellationToken::new();
        let context = Context::new(
            "test".to_owned(),
            Map::new(),
            Arc::clone(&outbox),
            cancelled.clone(),
            tracing::Span::none(),
        );
        let chunks = Chunks::new(Arc::clone(&outbox), "test", false);
        let input = to_raw_value(&json!(null)).unwrap();
        let call = Call::new(context, input, Arc::new(()), chunks);
        (call, outbox, cancelled)
    }

    #[tokio::test]
    async fn an_endless_iterator_ends_when_its_job_is_cancelled() {
        // Nothing empties the outbox, so the thread waits for room when the job is cancelled.
        let (call, _outbox, cancelled) = call();
        let (made, mut seen) = tokio::sync::watch::channel(0);
        let items = (1..).inspect(move |n| made.send(*n).unwrap());
        let thread = tokio::task::spawn_blocking(|| {
            let encode = shape(&0).tag().encoder::<usize>();
            drive_iterator(items, call, encode)
        });
        seen.wait_for(|n| *n > MAX_CHUNKS).await.unwrap();
        cancelled.cancel();
        let ended = tokio::time::timeout(Duration::from_mins(1), thread).await;
        assert_eq!(ended.unwrap().unwrap().unwrap_err().kind(), "closed");
    }

    #[tokio::test]
    async fn an_endless_stream_ends_when_its_chunks_are_refused() {
        let (call, outbox, _cancelled) = call();
        outbox.close();
        let encode = shape(&0).tag().encoder::<u32>();
        let ended = drive_stream(futures::stream::repeat(1), call, encode).await;
        assert_eq!(ended.unwrap_err().kind(), "closed");
    }
}
