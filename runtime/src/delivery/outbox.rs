//! What a job has to say, in order, until it is delivered.
//!
//! One outbox a job: the handler writes into it, one writer empties it. So nothing overtakes the final, nothing
//! follows it, and the handler waits for the network only when the outbox is full.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podwork_protocol::{RawValue, limits};
use tokio::sync::Notify;

use crate::delivery::coalesce::Joined;
use crate::error::HandlerError;

/// Most chunks that wait in one outbox.
pub(crate) const MAX_CHUNKS: usize = 1024;
/// Bytes of waiting chunks from which on the handler waits.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Final {
    /// The output, or why there is none.
    pub(crate) outcome: Result<Box<RawValue>, HandlerError>,
    /// The worker is to be replaced once this is delivered.
    pub(crate) refresh: bool,
}

/// What is to be posted next.
#[derive(Debug)]
pub(crate) enum Message {
    Chunk(Box<RawValue>),
    Progress(Box<RawValue>),
    Final(Final),
}

/// The job was stopped, or its chunks were refused: nothing more is taken in.
#[derive(Debug)]
pub(crate) struct Closed;

impl From<Closed> for HandlerError {
    /// Nobody sees this one: the job is over already.
    fn from(Closed: Closed) -> Self {
        Self::cancelled()
    }
}

/// What becomes of messages that wait together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum QueueMode {
    /// A newer progress takes the place of an older one.
    #[default]
    Coalesce,
    /// … and chunks leave as one where they can be joined.
    Join,
    /// Each leaves as it came, for tests that want to see all of it.
    KeepAll,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    mode: QueueMode,
    // Never held across an await.
    state: Mutex<OutboxState>,
    written: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct OutboxState {
    queue: VecDeque<Queued>,
    /// Of the chunks in `queue`.
    bytes: usize,
    /// How many have left the queue since the start.
    left: usize,
    /// Where the waiting progress stands, counted from the start, so that a newer one can take its place.
    progress: Option<usize>,
    /// A handler waits for room.
    held_back: bool,
    last: Option<Final>,
    /// The end was set; nothing comes after it.
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

    /// Whether a handler that waits for room is to go on: not for every place that becomes free, since each time costs
    /// both threads more than the chunk does.
    fn lets_go_on(&mut self) -> bool {
        let half_empty = self.queue.len() <= MAX_CHUNKS / 2 && self.bytes <= MAX_BYTES / 2;
        half_empty && std::mem::take(&mut self.held_back)
    }

    /// The chunk that has just left the queue, with those behind it that can be joined to it.
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
        joined.end().expect("JSON texts or lists make one")
    }
}

impl Outbox {
    /// An outbox from which chunks that wait together leave as one, if `join` says so.
    pub(crate) fn new(join: bool) -> Self {
        Self {
            mode: if join {
                QueueMode::Join
            } else {
                QueueMode::Coalesce
            },
            ..Self::default()
        }
    }

    /// An outbox in which no progress update replaces another.
    pub(crate) fn keeping_all() -> Self {
        Self {
            mode: QueueMode::KeepAll,
            ..Self::default()
        }
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        let state = self.state();
        let last = state.last.as_ref();
        let output = last.and_then(|last| last.outcome.as_ref().ok());
        state.bytes + output.map_or(0, |output| output.get().len())
    }

    fn state(&self) -> MutexGuard<'_, OutboxState> {
        // No code panics while it holds the lock, so a poisoned state is still a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a chunk, once there is room. Who has to wait does so until half of the outbox has left.
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

    /// Sets the latest progress; one that still waits is replaced where it stands.
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

    /// Sets the end. A progress that still waits is dropped: nobody could see it before the end.
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

    /// Drops what waits, and all that may still come, but for the end.
    pub(crate) fn close(&self) {
        {
            let mut state = self.state();
            state.closed = true;
            state.queue.clear();
            state.bytes = 0;
        }
        self.emptied.notify_one();
    }

    /// What is to be posted next, waiting for it. After [`Message::Final`] there is nothing more to wait for.
    pub(crate) async fn next(&self) -> Message {
        loop {
            let written = self.written.notified();
            if let Some(message) = self.pop() {
                return message;
            }
            written.await;
        }
    }

    /// Waits until there is something to be posted.
    pub(crate) async fn ready(&self) {
        loop {
            let written = self.written.notified();
            {
                let state = self.state();
                if !state.queue.is_empty() || state.last.is_some() {
                    return;
                }
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

/// The handler's way to yield chunks.
#[derive(Debug)]
pub(crate) struct Chunks {
    outbox: Arc<Outbox>,
    /// All chunks so far, where the final is to repeat them.
    kept: Option<Vec<Box<RawValue>>>,
    /// Of the list of the chunks kept.
    kept_bytes: usize,
    /// Most bytes of the final.
    limit: usize,
}

impl Chunks {
    /// For the job of this id; `keep`: the final repeats all chunks.
    pub(crate) fn new(outbox: Arc<Outbox>, job_id: &str, keep: bool) -> Self {
        Self {
            outbox,
            kept: keep.then(Vec::new),
            kept_bytes: 2,
            limit: limits::result_payload(job_id),
        }
    }

    /// Adds a chunk, once there is room. An error ends the stream: the platform would refuse this chunk, or the list of
    /// all.
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

    /// The final output of a stream that ended well: what was kept, else an empty list.
    pub(crate) fn finish(self) -> Vec<Box<RawValue>> {
        self.kept.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use serde_json::json;

    fn raw(value: serde_json::Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(&value).unwrap()
    }

    fn last(value: serde_json::Value) -> Final {
        Final {
            outcome: Ok(raw(value)),
            refresh: false,
        }
    }

    /// What waits, as text: `c…` chunk, `p…` progress, `f…` final.
    fn drain(outbox: &Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.next().now_or_never())
            .map(spell)
            .collect()
    }

    fn spell(message: Message) -> String {
        match message {
            Message::Chunk(chunk) => format!("c{chunk}"),
            Message::Progress(progress) => format!("p{progress}"),
            Message::Final(last) => format!("f{}", last.outcome.unwrap()),
        }
    }

    #[tokio::test]
    async fn the_latest_progress_takes_the_place_of_the_one_that_waits() {
        let outbox = Outbox::default();
        outbox.chunk(raw(json!(1))).await.unwrap();
        outbox.progress(raw(json!(10)));
        outbox.chunk(raw(json!(2))).await.unwrap();
        outbox.progress(raw(json!(20)));
        assert_eq!(drain(&outbox), ["c1", "p20", "c2"]);
        outbox.progress(raw(json!(30)));
        outbox.progress(raw(json!(31)));
        assert_eq!(drain(&outbox), ["p31"]);
    }

    #[tokio::test]
    async fn nothing_follows_the_final_and_nothing_overtakes_it() {
        let outbox = Outbox::default();
        outbox.chunk(raw(json!(1))).await.unwrap();
        outbox.progress(raw(json!(10)));
        outbox.finish(last(json!("end")));
        outbox.progress(raw(json!(11)));
        outbox.finish(last(json!("second end")));
        assert_eq!(drain(&outbox), ["c1", "f\"end\""]);
        // Not even from a task that the handler has left behind.
        outbox.progress(raw(json!(12)));
        assert!(drain(&outbox).is_empty());
    }

    #[tokio::test]
    async fn a_full_outbox_holds_the_handler_until_half_of_it_has_left() {
        let outbox = Outbox::default();
        for n in 0..MAX_CHUNKS {
            outbox.chunk(raw(json!(n))).await.unwrap();
        }
        let mut waiting = std::pin::pin!(outbox.chunk(raw(json!("last"))));
        assert!(waiting.as_mut().now_or_never().is_none());
        for _ in 0..MAX_CHUNKS / 2 - 1 {
            outbox.next().await;
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        outbox.next().await;
        waiting.await.unwrap();
        // Who comes when there is room does not wait.
        for n in 0..MAX_CHUNKS / 2 - 1 {
            outbox.chunk(raw(json!(n))).now_or_never().unwrap().unwrap();
        }

        let outbox = Outbox::default();
        outbox
            .chunk(raw(json!("x".repeat(MAX_BYTES))))
            .await
            .unwrap();
        assert!(outbox.chunk(raw(json!(1))).now_or_never().is_none());
    }

    #[tokio::test]
    async fn closing_lets_go_of_a_waiting_handler() {
        let outbox = Outbox::default();
        outbox
            .chunk(raw(json!("x".repeat(MAX_BYTES))))
            .await
            .unwrap();
        let mut waiting = std::pin::pin!(outbox.chunk(raw(json!(1))));
        assert!(waiting.as_mut().now_or_never().is_none());
        outbox.close();
        waiting.await.unwrap_err();
        outbox.progress(raw(json!(1)));
        outbox.finish(last(json!("end")));
        assert_eq!(drain(&outbox), ["f\"end\""]);
    }

    #[tokio::test]
    async fn a_test_sees_every_progress() {
        let outbox = Outbox::keeping_all();
        outbox.progress(raw(json!(1)));
        outbox.progress(raw(json!(2)));
        outbox.finish(last(json!("end")));
        assert_eq!(drain(&outbox), ["p1", "p2", "f\"end\""]);
    }

    /// One thing done with an outbox.
    #[derive(Debug, Clone, Copy)]
    enum Op {
        Chunk,
        Progress,
        Next,
        Finish,
    }

    /// The outbox as it is meant, with no regard to cost: what waits, in order, as `drain` spells it.
    #[derive(Default)]
    struct Model {
        waiting: Vec<String>,
        finished: bool,
    }

    impl Model {
        fn apply(&mut self, op: Op, n: usize) -> Option<String> {
            match op {
                Op::Chunk if !self.finished => self.waiting.push(format!("c{n}")),
                Op::Progress if !self.finished => {
                    let mut waiting = self.waiting.iter_mut();
                    match waiting.find(|waiting| waiting.starts_with('p')) {
                        Some(waiting) => *waiting = format!("p{n}"),
                        None => self.waiting.push(format!("p{n}")),
                    }
                }
                Op::Finish if !self.finished => {
                    self.finished = true;
                    self.waiting.retain(|waiting| !waiting.starts_with('p'));
                    self.waiting.push(format!("f{n}"));
                }
                Op::Next if !self.waiting.is_empty() => return Some(self.waiting.remove(0)),
                _ => {}
            }
            None
        }
    }

    proptest::proptest! {
        #[test]
        fn it_does_as_its_model_does(
            ops in proptest::collection::vec(
                proptest::sample::select(vec![
                    Op::Chunk, Op::Chunk, Op::Progress, Op::Progress, Op::Next, Op::Next, Op::Finish,
                ]),
                0..60,
            ),
        ) {
            let (outbox, mut model) = (Outbox::default(), Model::default());
            for (n, op) in ops.into_iter().enumerate() {
                let expected = model.apply(op, n);
                match op {
                    // A handler yields nothing once it has ended.
                    Op::Chunk if model.finished => {}
                    Op::Chunk => outbox.chunk(raw(json!(n))).now_or_never().unwrap().unwrap(),
                    Op::Progress => outbox.progress(raw(json!(n))),
                    Op::Finish => outbox.finish(last(json!(n))),
                    Op::Next => {
                        let got = outbox.next().now_or_never().map(spell);
                        proptest::prop_assert_eq!(got, expected);
                    }
                }
            }
            proptest::prop_assert_eq!(drain(&outbox), model.waiting);
        }
    }

    #[tokio::test]
    async fn chunks_that_wait_leave_as_one_where_that_is_right() {
        let outbox = Outbox::new(true);
        for chunk in [
            json!("a"),
            json!("b"),
            json!(1),
            json!(2),
            json!([1]),
            json!([2]),
        ] {
            outbox.chunk(raw(chunk)).await.unwrap();
        }
        outbox.progress(raw(json!(9)));
        outbox.chunk(raw(json!([3]))).await.unwrap();
        assert_eq!(
            drain(&outbox),
            ["c\"ab\"", "c1", "c2", "c[1,2]", "p9", "c[3]"]
        );
        assert_eq!(outbox.bytes(), 0);
        outbox.progress(raw(json!(10)));
        outbox.progress(raw(json!(11)));
        assert_eq!(drain(&outbox), ["p11"], "places are counted by what left");
    }
}
