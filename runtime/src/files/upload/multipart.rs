//! Multipart uploads, which are aborted on the server if they are dropped.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore as _, PutMultipartOptions, UploadPart};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::warn;

use crate::handler::Context;

use super::store::UploadStore;

/// A multipart upload. If dropped before it is complete, a background task of its job aborts it on the server.
pub(super) struct Multipart {
    cx: Context,
    upload: Option<Box<dyn MultipartUpload>>,
    key: String,
    runtime: Handle,
}

impl Multipart {
    /// Begins an upload. It is also aborted if this future is dropped while the server creates it.
    pub(super) async fn begin(
        cx: &Context,
        store: Arc<UploadStore>,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Self> {
        let runtime = Handle::current();
        let (began, beginning) = oneshot::channel();
        let (owner, path) = (cx.clone(), path.clone());
        let at = runtime.clone();
        cx.tidy(&runtime, async move {
            let upload = store.s3.put_multipart_opts(&path, options).await;
            let upload = upload.map(|upload| Self {
                cx: owner,
                upload: Some(upload),
                key: path.to_string(),
                runtime: at,
            });
            // If the receiver is gone, the upload is dropped here and so aborted.
            drop(began.send(upload));
        });
        beginning.await.unwrap_or_else(|_| {
            Err(object_store::Error::Generic {
                store: "S3",
                source: "the runtime is shutting down".into(),
            })
        })
    }

    pub(super) fn put(&mut self, part: Bytes) -> UploadPart {
        self.upload().put_part(part.into())
    }

    pub(super) async fn complete(&mut self) -> object_store::Result<()> {
        self.upload().complete().await.map(drop)
    }

    /// Drops a complete upload without aborting it.
    pub(super) fn forget(mut self) {
        self.upload = None;
    }

    fn upload(&mut self) -> &mut dyn MultipartUpload {
        let upload = self.upload.as_mut();
        upload.expect("present until it is dropped").as_mut()
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else {
            return;
        };
        let key = std::mem::take(&mut self.key);
        self.cx.tidy(&self.runtime, async move {
            match upload.abort().await {
                // An upload that no longer exists needs no abort.
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(_) => warn!(
                    key,
                    "Failed to abort an upload; add a bucket rule that removes incomplete uploads."
                ),
            }
        });
    }
}
