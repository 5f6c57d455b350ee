//! A file that is still being downloaded.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::Path;

use hyper::header::HeaderValue;
use ring::digest::{Context as Hash, SHA256};
use tempfile::TempPath;
use tokio_util::task::TaskTracker;

use crate::handler::Context;
use crate::net::sha256::Sum;

use super::name;

/// The number of bytes that are buffered before they are written to disk.
const BUFFER: usize = 1024 * 1024;

/// The received part of a file. If dropped before it is complete, it removes the file.
pub(super) struct Partial {
    cx: Context,
    /// Tracks the threads that create files, so that the caller can wait for them.
    making: TaskTracker,
    /// The number of bytes received, including those in the buffer.
    pub(super) len: u64,
    /// The size of the complete file, if known.
    pub(super) total: Option<u64>,
    /// The validator that identifies this version of the file, for `If-Range`.
    pub(super) version: Option<HeaderValue>,
    buffer: Vec<u8>,
    sink: Option<Sink>,
    /// Separate from the sink, so that the file is removed at once even if a thread is still writing to it.
    path: Option<TempPath>,
}

/// The open file and its checksum. Moved to a blocking thread for each write, and back.
struct Sink {
    file: File,
    hash: Hash,
}

impl Partial {
    pub(super) fn new(cx: &Context, making: &TaskTracker) -> Self {
        Self {
            cx: cx.clone(),
            making: making.clone(),
            len: 0,
            total: None,
            version: None,
            buffer: Vec::new(),
            sink: None,
            path: None,
        }
    }

    /// Begins at the first byte: creates a file of this name, or clears the existing one.
    pub(super) async fn begin(&mut self, name: String) -> io::Result<()> {
        self.len = 0;
        self.total = None;
        self.version = None;
        self.buffer.clear();
        let Some(mut sink) = self.sink.take() else {
            let (cx, making) = (self.cx.clone(), self.making.token());
            // If the caller is gone, these are dropped in order: first the file, then the token.
            let create = move || create(&cx.folder()?, &name).map(|made| (made, making));
            let ((sink, path), _) = self.cx.blocking(create).await??;
            (self.sink, self.path) = (Some(sink), Some(path));
            return Ok(());
        };
        let clear = move || {
            sink.file.set_len(0)?;
            sink.file.rewind()?;
            sink.hash = Hash::new(&SHA256);
            io::Result::Ok(sink)
        };
        self.sink = Some(self.cx.blocking(clear).await??);
        Ok(())
    }

    /// Appends the next bytes. Returns whether a full buffer was written, which is the time to report progress.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.buffer.extend_from_slice(bytes);
        self.len += bytes.len() as u64;
        let full = self.buffer.len() >= BUFFER;
        if full {
            self.write().await?;
        }
        Ok(full)
    }

    async fn write(&mut self) -> io::Result<()> {
        let mut sink = self.sink.take().expect("`begin` was called");
        let mut buffer = std::mem::take(&mut self.buffer);
        let write = move || {
            sink.file.write_all(&buffer)?;
            sink.hash.update(&buffer);
            buffer.clear();
            io::Result::Ok((sink, buffer))
        };
        let (sink, buffer) = self.cx.blocking(write).await??;
        self.sink = Some(sink);
        self.buffer = buffer;
        Ok(())
    }

    /// Writes the rest and returns the checksum and the file. The file is still removed on drop, unless it is kept.
    pub(super) async fn end(mut self) -> io::Result<(Sum, TempPath)> {
        self.write().await?;
        let (sink, path) = (self.sink.take(), self.path.take());
        let (sink, path) = sink.zip(path).expect("`begin` was called");
        Ok((sink.hash.finish().into(), path))
    }
}

/// Creates a file of this name, or of a numbered one if the name is taken.
fn create(folder: &Path, name: &str) -> io::Result<(Sink, TempPath)> {
    let new = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
    let (file, path) = name::make_new("files", folder, name, new)?;
    let hash = Hash::new(&SHA256);
    Ok((Sink { file, hash }, TempPath::try_from_path(path)?))
}
