//! The outbox: the queue of posts of one job, in order.
//!
//! Each job has one outbox. Its handler writes to it, and a single delivery task empties it. So no post overtakes the
//! final result or follows it, and the handler waits for the network only when the outbox is full.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podwork_protocol::{RawValue, limits};
use tokio::sync::Notify;

use crate::delivery::coalesce::Joined;
use crate::error::HandlerError;

/// The maximum number of chunks waiting in one outbox.
pub(crate) const MAX_CHUNKS: usize = 1024;
/// The size of waiting chunks at which the handler has to wait, in bytes.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The final result of a job.
#[derive(Debug)]
pub(crate) struct Final {
    /// The output, or the error.
    pub(crate) outcome: Result<Box<RawValue>, HandlerError>,
    /// The worker will be replaced once this result is delivered.
    pub(crate) refresh: bool,
}

/// The next message to post.
#[derive(Debug)]
pub(crate) enum Message {
    Chunk(Box<RawValue>),
    Progress(Box<RawValue>),
    Final(Final),
}

/// The error of a closed outbox: the job was cancelled, or the platform rejected a chunk. The outbox accepts no more
/// messages.
#[derive(Debug)]
pub(crate) struct Closed;

impl From<Closed> for HandlerError {
    /// Creates an error that is never posted, because the job has already ended.
    fn from(Closed: Closed) -> Self {
        Self::cancelled()
    }
}

/// The handling of messages that wait at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum QueueMode {
    /// A newer progress update replaces an older one.
    #[default]
    Coalesce,
    /// Like `Coalesce`, and chunks are joined into one where possible.
    Join,
    /// Each message is kept as it is, for tests that check all of them.
    KeepAll,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    mode: QueueMode,
    /// The handler streams this job.
    streams: AtomicBool,
    // Never held across an await.
    state: Mutex<OutboxState>,
    written: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct OutboxState {
    queue: VecDeque<Queued>,
    /// The size of the chunks in `queue`, in bytes.
    bytes: usize,
    /// The number of messages that have left the queue since the start.
    left: usize,
    /// The position of the waiting progress update, counted from the start, so that a newer one can replace it.
    progress: Option<usize>,
    /// A handler is waiting for room.
    held_back: bool,
    last: Option<Final>,
    /// The final result was set; nothing follows it.
    finished: bool,
    closed: bool,
}

#[derive(Debug)]
enum Queued {
    Chunk(Box<RawValue>),
    Progress(Box<RawValue>),
}

impl OutboxState {
    fn has_room(&self) -> bool {
        self.queue.len() < MAX_CHUNKS && self.bytes < MAX_BYTES
    }

    /// Returns whether to wake a handler that waits for room. It is not woken for every message that leaves, because
    /// each wake-up costs both threads more than the chunk itself.
    fn lets_go_on(&mut self) -> bool {
        let half_empty = self.queue.len() <= MAX_CHUNKS / 2 && self.bytes <= MAX_BYTES / 2;
        half_empty && std::mem::take(&mut self.held_back)
    }

    /// Joins the chunk that has just left the queue with the chunks behind it, as far as possible.
    fn joined(&mut self, first: Box<RawValue>) -> Box<RawValue> {
        if !matches!(self.queue.front(), Some(Queued::Chunk(_))) {
            return first;
        }
        let Some(mut joined) = Joined::begin(&first) else {
            return first;
        };
        while let Some(Queued::Chunk(next)) = self.queue.front()
            && joined.add(next, limits::CHUNK)
        {
            self.bytes -= next.get().len();
            self.left += 1;
            self.queue.pop_front();
        }
        joined.end().expect("joined chunks are valid JSON")
    }
}

impl Outbox {
    /// Creates an outbox. If `join` is set, it joins chunks that wait at the same time. `streams`: the handler streams this
    /// job, even if it ends before its first chunk.
    pub(crate) fn new(join: bool, streams: bool) -> Self {
        Self {
            mode: if join {
                QueueMode::Join
            } else {
                QueueMode::Coalesce
            },
            streams: AtomicBool::new(streams),
            ..Self::default()
        }
    }

    /// Creates an outbox in which no progress update replaces another.
    pub(crate) fn keeping_all() -> Self {
        Self {
            mode: QueueMode::KeepAll,
            ..Self::default()
        }
    }

    /// Returns the size of the waiting chunks and output, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let state = self.state();
        let last = state.last.as_ref();
        let output = last.and_then(|last| last.outcome.as_ref().ok());
        state.bytes + output.map_or(0, |output| output.get().len())
    }

    fn state(&self) -> MutexGuard<'_, OutboxState> {
        // No code panics while it holds the lock, so a poisoned state is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the handler streams this job. Read it after the final result.
    pub(crate) fn streams(&self) -> bool {
        self.streams.load(Ordering::Relaxed)
    }

    /// Adds a chunk, once there is room. If the outbox is full, waits until it is half empty.
    ///
    /// # Errors
    /// Returns an error if the outbox is closed.
    pub(crate) async fn chunk(&self, chunk: Box<RawValue>) -> Result<(), Closed> {
        loop {
            let emptied = self.emptied.notified();
            {
                let mut state = self.state();
                if state.closed {
                    return Err(Closed);
                }
                if state.has_room() {
                    state.bytes += chunk.get().len();
                    state.queue.push_back(Queued::Chunk(chunk));
                    break;
                }
                state.held_back = true;
            }
            emptied.await;
        }
        self.written.notify_one();
        Ok(())
    }

    /// Adds a progress update. It takes the position of an earlier one that still waits.
    pub(crate) fn progress(&self, progress: Box<RawValue>) {
        {
            let mut state = self.state();
            if state.closed || state.finished {
                return;
            }
            let waiting = state.progress.and_then(|at| at.checked_sub(state.left));
            match waiting {
                Some(at) if self.mode != QueueMode::KeepAll => {
                    state.queue[at] = Queued::Progress(progress);
                }
                _ => {
                    state.progress = Some(state.left + state.queue.len());
                    state.queue.push_back(Queued::Progress(progress));
                }
            }
        }
        self.written.notify_one();
    }

    /// Sets the final result. A progress update that still waits is dropped: no client would see it before the result.
    pub(crate) fn finish(&self, last: Final) {
        {
            let mut state = self.state();
            if std::mem::replace(&mut state.finished, true) {
                return;
            }
            if self.mode != QueueMode::KeepAll {
                state
                    .queue
                    .retain(|waiting| matches!(waiting, Queued::Chunk(_)));
            }
            state.last = Some(last);
        }
        self.written.notify_one();
    }

    /// Drops all waiting and all further messages, except the final result.
    pub(crate) fn close(&self) {
        {
            let mut state = self.state();
            state.closed = true;
            state.queue.clear();
            state.bytes = 0;
        }
        self.emptied.notify_one();
    }

    /// Waits for the next message to post. No message follows [`Message::Final`].
    pub(crate) async fn next(&self) -> Message {
        loop {
            let written = self.written.notified();
            if let Some(message) = self.pop() {
                return message;
            }
            written.await;
        }
    }

    fn pop(&self) -> Option<Message> {
        let mut state = self.state();
        let message = match state.queue.pop_front() {
            Some(Queued::Chunk(chunk)) => {
                state.bytes -= chunk.get().len();
                state.left += 1;
                Message::Chunk(if self.mode == QueueMode::Join {
                    state.joined(chunk)
                } else {
                    chunk
                })
            }
            Some(Queued::Progress(progress)) => {
                state.left += 1;
                Message::Progress(progress)
            }
            None => Message::Final(state.last.take()?),
        };
        let goes_on = state.lets_go_on();
        drop(state);
        if goes_on {
            self.emptied.notify_one();
        }
        Some(message)
    }
}

/// The sink for the chunks of a handler.
#[derive(Debug)]
pub(crate) struct Chunks {
    outbox: Arc<Outbox>,
    /// All chunks so far, if the final result is the list of them.
    kept: Option<Vec<Box<RawValue>>>,
    /// The size of that list as JSON, in bytes.
    kept_bytes: usize,
    /// The maximum size of the final result, in bytes.
    limit: usize,
}

impl Chunks {
    /// Creates the sink for the job `job_id`. If `keep` is set, the final result is the list of all chunks.
    pub(crate) fn new(outbox: Arc<Outbox>, job_id: &str, keep: bool) -> Self {
        Self {
            outbox,
            kept: keep.then(Vec::new),
            kept_bytes: 2,
            limit: limits::result_payload(job_id),
        }
    }

    /// Notes that the handler streams this job, whether or not a chunk follows.
    pub(crate) fn begin(&self) {
        // The lock around the final result orders this before its delivery.
        self.outbox.streams.store(true, Ordering::Relaxed);
    }

    /// Adds a chunk, once there is room.
    ///
    /// # Errors
    /// Returns an error, which ends the stream, if the platform would reject this chunk or the list of all chunks, or
    /// if the outbox is closed.
    pub(crate) async fn push(&mut self, chunk: Box<RawValue>) -> Result<(), HandlerError> {
        let size = chunk.get().len();
        if size > limits::CHUNK {
            return Err(HandlerError::too_large("chunk", size, limits::CHUNK));
        }
        if let Some(kept) = &mut self.kept {
            self.kept_bytes += size + usize::from(!kept.is_empty());
            if self.kept_bytes > self.limit {
                let what = "output (the list of all chunks)";
                return Err(HandlerError::too_large(what, self.kept_bytes, self.limit));
            }
            kept.push(chunk.clone());
        }
        self.outbox.chunk(chunk).await.map_err(Into::into)
    }

    /// Returns the final output of a successful stream: the chunks that were kept, or an empty list.
    pub(crate) fn finish(self) -> Vec<Box<RawValue>> {
        self.kept.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
