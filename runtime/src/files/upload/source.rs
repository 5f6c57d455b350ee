//! What is uploaded, part by part.

use std::io;
use std::pin::Pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes at hand, or such that are yet to be read.
pub(super) enum UploadSource<'a> {
    Bytes(Bytes),
    Reader {
        reader: Pin<Box<dyn AsyncRead + Send + 'a>>,
        /// What has been read of the next part.
        part: BytesMut,
    },
}

/// Least that is read at once.
const LEAST: usize = 64 * 1024;

impl<'a> UploadSource<'a> {
    pub(super) fn reader(reader: impl AsyncRead + Send + 'a) -> Self {
        Self::Reader {
            reader: Box::pin(reader),
            part: BytesMut::new(),
        }
    }

    /// The next `size` bytes; fewer only at the end. Dropped, it loses nothing.
    pub(super) async fn next(&mut self, size: usize) -> io::Result<Bytes> {
        let (reader, part) = match self {
            Self::Bytes(bytes) => return Ok(bytes.split_to(size.min(bytes.len()))),
            Self::Reader { reader, part } => (reader, part),
        };
        while part.len() < size {
            if part.len() == part.capacity() {
                // Twice as much each time, but no more than is needed: what is small takes little.
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
