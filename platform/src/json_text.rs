//! JSON text in pieces, so that large payloads within it are not copied.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Serialize;

/// Payloads up to this many bytes are copied into the text around them.
const SMALL: usize = 16 * 1024;

/// JSON text that is being written.
#[derive(Debug, Default)]
pub(crate) struct JsonText {
    pieces: VecDeque<Bytes>,
    last: Vec<u8>,
}

impl JsonText {
    /// Adds text as it is.
    pub(crate) fn text(&mut self, text: &str) {
        self.last.extend_from_slice(text.as_bytes());
    }

    /// Adds a value.
    pub(crate) fn value(&mut self, value: &impl Serialize) {
        // Structs of strings, numbers and raw JSON always serialise, and writing to memory does not fail.
        let _ = serde_json::to_writer(&mut self.last, value);
    }

    /// Adds an object without its closing brace, so that further members can follow.
    pub(crate) fn open_object(&mut self, object: &impl Serialize) {
        self.value(object);
        self.last.pop();
    }

    /// Adds a payload, which is JSON text itself.
    pub(crate) fn payload(&mut self, payload: &Bytes) {
        if payload.len() <= SMALL {
            self.last.extend_from_slice(payload);
            return;
        }
        self.end_piece();
        self.pieces.push_back(payload.clone());
    }

    /// The text, in its pieces.
    pub(crate) fn into_pieces(mut self) -> VecDeque<Bytes> {
        self.end_piece();
        self.pieces
    }

    /// The text as a whole.
    pub(crate) fn into_bytes(self) -> Bytes {
        let mut pieces = self.into_pieces();
        match pieces.len() {
            1 => pieces.pop_front().unwrap_or_default(),
            _ => pieces.make_contiguous().concat().into(),
        }
    }

    fn end_piece(&mut self) {
        if !self.last.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.last).into());
        }
    }
}
