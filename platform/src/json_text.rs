//! JSON text in pieces, so that large payloads are not copied into it.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Serialize;

/// The size limit, in bytes, up to which a payload is copied into the surrounding text.
const SMALL: usize = 16 * 1024;

/// A JSON text under construction.
#[derive(Debug, Default)]
pub(crate) struct JsonText {
    pieces: VecDeque<Bytes>,
    last: Vec<u8>,
}

impl JsonText {
    /// Appends text unchanged.
    pub(crate) fn text(&mut self, text: &str) {
        self.last.extend_from_slice(text.as_bytes());
    }

    /// Appends a value.
    pub(crate) fn value(&mut self, value: &impl Serialize) {
        // Structs of strings, numbers and raw JSON always serialize, and writing to memory does not fail.
        let _ = serde_json::to_writer(&mut self.last, value);
    }

    /// Appends an object without its closing brace, so that further members can follow.
    pub(crate) fn open_object(&mut self, object: &impl Serialize) {
        self.value(object);
        self.last.pop();
    }

    /// Appends a payload, which is JSON text already.
    pub(crate) fn payload(&mut self, payload: &Bytes) {
        if payload.len() <= SMALL {
            self.last.extend_from_slice(payload);
            return;
        }
        self.end_piece();
        self.pieces.push_back(payload.clone());
    }

    /// Returns the pieces of the text.
    pub(crate) fn into_pieces(mut self) -> VecDeque<Bytes> {
        self.end_piece();
        self.pieces
    }

    /// Returns the text as one buffer.
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
