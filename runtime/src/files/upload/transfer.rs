//! The transfer of one upload, in one request or in parts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ObjectStore as _, ObjectStoreExt as _, PutMultipartOptions, PutOptions,
};

use crate::config::bucket::Bucket;
use crate::files::transferred::Transferred;
use crate::handler::Context;

use super::error::UploadError;
use super::multipart::Multipart;
use super::source::UploadSource;
use super::store::{UploadFailure, UploadStore};

/// The size of a part, in bytes. Files up to this size are sent in one request.
pub(super) const PART: usize = 16 * 1024 * 1024;
/// The maximum number of parts in S3.
const MOST_PARTS: usize = 10_000;
/// The maximum number of parts that are sent concurrently.
const AT_ONCE: usize = 4;

/// The progress of an upload.
pub(super) struct Sent<'a> {
    pub(super) name: &'a str,
    pub(super) bytes: u64,
    pub(super) of: Option<u64>,
    pub(super) report: Option<&'a (dyn Fn(Transferred) + Send + Sync)>,
}

impl Sent<'_> {
    pub(super) fn tell(&self) {
        if let Some(report) = self.report {
            report(Transferred {
                bytes: self.bytes,
                of: self.of,
            });
        }
    }

    pub(super) fn unread(&self, source: std::io::Error) -> UploadError {
        let name = self.name.to_owned();
        UploadError::Read { name, source }
    }
}

/// The destination of one upload.
pub(super) struct UploadTarget<'a> {
    pub(super) cx: &'a Context,
    pub(super) bucket: &'a Bucket,
    pub(super) store: Arc<UploadStore>,
    pub(super) key: &'a str,
    pub(super) kind: String,
}

impl UploadTarget<'_> {
    pub(super) async fn upload(
        &self,
        source: &mut UploadSource<'_>,
        sent: &mut Sent<'_>,
    ) -> Result<(), UploadError> {
        let size = part_size(sent.of);
        let first = source
            .next(size)
            .await
            .map_err(|error| sent.unread(error))?;
        let next = if first.len() < size {
            Bytes::new()
        } else {
            source
                .next(size)
                .await
                .map_err(|error| sent.unread(error))?
        };
        if next.is_empty() {
            let bytes = first.len() as u64;
            let options = PutOptions::from(self.attributes());
            let path = self.path(sent.name)?;
            let put = self.store.s3.put_opts(&path, first.into(), options);
            put.await.map_err(|_| self.failed(sent.name))?;
            sent.bytes = bytes;
            return Ok(());
        }
        self.in_parts([first, next], size, source, sent).await
    }

    async fn in_parts(
        &self,
        ready: [Bytes; 2],
        size: usize,
        source: &mut UploadSource<'_>,
        sent: &mut Sent<'_>,
    ) -> Result<(), UploadError> {
        let path = self.path(sent.name)?;
        let options = PutMultipartOptions::from(self.attributes());
        let begun = Multipart::begin(self.cx, Arc::clone(&self.store), &path, options).await;
        let mut upload = begun.map_err(|_| self.failed(sent.name))?;
        // Declared after `upload`, so it is dropped first: requests for parts end before the upload is aborted.
        let mut going = FuturesUnordered::new();
        let put = |part: Bytes, upload: &mut Multipart| {
            let bytes = part.len() as u64;
            let putting = upload.put(part);
            async move { putting.await.map(|()| bytes) }
        };
        let mut parts = 0;
        let mut ended = false;
        for part in ready {
            ended = part.len() < size;
            going.push(put(part, &mut upload));
            parts += 1;
        }
        loop {
            tokio::select! {
                read = source.next(size), if !ended && going.len() < AT_ONCE => {
                    let part = read.map_err(|error| sent.unread(error))?;
                    ended = part.len() < size;
                    if part.is_empty() {
                        continue;
                    }
                    if parts == MOST_PARTS {
                        let name = sent.name.to_owned();
                        let limit = (size * MOST_PARTS) as u64;
                        return Err(UploadError::TooLarge { name, limit });
                    }
                    going.push(put(part, &mut upload));
                    parts += 1;
                }
                Some(put) = going.next() => {
                    sent.bytes += put.map_err(|_| self.failed(sent.name))?;
                    sent.tell();
                }
                else => break,
            }
        }
        drop(going);
        if upload.complete().await.is_err() {
            let failure = self.store.failure();
            if !self.is_complete(failure.as_ref(), &path, sent.bytes).await {
                return Err(UploadError::of(failure, sent.name, self.bucket));
            }
        }
        upload.forget();
        Ok(())
    }

    /// Returns whether the upload is complete and only the response was lost. In that case the service answers the
    /// retry with `NoSuchUpload`.
    async fn is_complete(&self, failure: Option<&UploadFailure>, path: &Path, bytes: u64) -> bool {
        let gone = matches!(
            failure,
            Some(UploadFailure::Refused { code: Some(code), .. }) if code == "NoSuchUpload"
        );
        gone && matches!(self.store.s3.head(path).await, Ok(there) if there.size == bytes)
    }

    pub(super) async fn url(&self, name: &str, lifetime: Duration) -> Result<String, UploadError> {
        let url = self.store.url(&self.path(name)?, lifetime).await;
        url.map_err(|_| self.failed(name))
    }

    fn path(&self, name: &str) -> Result<Path, UploadError> {
        Path::parse(self.key).map_err(|error| UploadError::Name {
            name: name.to_owned(),
            problem: error.to_string(),
        })
    }

    fn attributes(&self) -> Attributes {
        Attributes::from_iter([(Attribute::ContentType, self.kind.clone())])
    }

    fn failed(&self, name: &str) -> UploadError {
        UploadError::of(self.store.failure(), name, self.bucket)
    }
}

/// Returns the size of a part, such that [`MOST_PARTS`] parts are enough for `of` bytes.
fn part_size(of: Option<u64>) -> usize {
    let Ok(of) = usize::try_from(of.unwrap_or(0)) else {
        return PART;
    };
    PART.max(of.div_ceil(MOST_PARTS))
}
