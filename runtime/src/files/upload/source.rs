//! The data of an upload, read in parts.

use std::io;
use std::pin::Pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The data of an upload: bytes in memory, or a reader.
pub(super) enum UploadSource<'a> {
    Bytes(Bytes),
    Reader {
        reader: Pin<Box<dyn AsyncRead + Send + 'a>>,
        /// The bytes of the next part that have been read.
        part: BytesMut,
    },
}

/// The initial size of the buffer of a part, in bytes.
const LEAST: usize = 64 * 1024;

impl<'a> UploadSource<'a> {
    pub(super) fn reader(reader: impl AsyncRead + Send + 'a) -> Self {
        Self::Reader {
            reader: Box::pin(reader),
            part: BytesMut::new(),
        }
    }

    /// Returns the next `size` bytes, or fewer at the end of the data. If the future is dropped, no bytes are lost.
    pub(super) async fn next(&mut self, size: usize) -> io::Result<Bytes> {
        let (reader, part) = match self {
            Self::Bytes(bytes) => return Ok(bytes.split_to(size.min(bytes.len()))),
            Self::Reader { reader, part } => (reader, part),
        };
        while part.len() < size {
            if part.len() == part.capacity() {
                // Doubles the buffer, up to the size of the part, so that small files need little memory.
                let more = part.len().max(LEAST).min(size - part.len());
                part.reserve(more);
            }
            let left = size - part.len();
            let mut room = (&mut *part).limit(left);
            if reader.read_buf(&mut room).await? == 0 {
                break;
            }
        }
        Ok(part.split().freeze())
    }
}
