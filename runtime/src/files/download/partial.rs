//! A file that is not there in full yet.

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

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1024 * 1024;

/// What came of a file so far. Dropped before it is whole, it leaves nothing.
pub(super) struct Partial {
    cx: Context,
    /// Who waits for this knows that no file is being made any more.
    making: TaskTracker,
    /// Bytes that came, those in the buffer with them.
    pub(super) len: u64,
    /// Bytes there will be.
    pub(super) total: Option<u64>,
    /// By which the server knows this version of the file again.
    pub(super) version: Option<HeaderValue>,
    buffer: Vec<u8>,
    sink: Option<Sink>,
    /// Beside the sink, so that it goes at once even while a thread still writes.
    path: Option<TempPath>,
}

/// Where it is written. Moved to a thread that may block, and back.
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

    /// Begins at the first byte, in a file of this name, or the one that there is.
    pub(super) async fn begin(&mut self, name: String) -> io::Result<()> {
        self.len = 0;
        self.total = None;
        self.version = None;
        self.buffer.clear();
        let Some(mut sink) = self.sink.take() else {
            let (cx, making) = (self.cx.clone(), self.making.token());
            // What nobody waits for any more is dropped in this order.
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

    /// Takes the next bytes; whether it is a good time to tell how far it is.
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
        let mut sink = self.sink.take().expect("it was begun");
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

    /// All has come: its checksum, and the file, which is still removed unless it is kept.
    pub(super) async fn end(mut self) -> io::Result<(Sum, TempPath)> {
        self.write().await?;
        let (sink, path) = (self.sink.take(), self.path.take());
        let (sink, path) = sink.zip(path).expect("it was begun");
        Ok((sink.hash.finish().into(), path))
    }
}

/// A new file of this name, or of one like it if there is one already.
fn create(folder: &Path, name: &str) -> io::Result<(Sink, TempPath)> {
    let new = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
    let (file, path) = name::make_new("files", folder, name, new)?;
    let hash = Hash::new(&SHA256);
    Ok((Sink { file, hash }, TempPath::try_from_path(path)?))
}
