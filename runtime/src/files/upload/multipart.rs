//! An upload in parts, which is no more on the server once it is given up.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore as _, PutMultipartOptions, UploadPart};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::warn;

use crate::handler::Context;

use super::store::UploadStore;

/// Dropped before it is complete, it is aborted on the server, by the job that it is of.
pub(super) struct Multipart {
    cx: Context,
    upload: Option<Box<dyn MultipartUpload>>,
    key: String,
    runtime: Handle,
}

impl Multipart {
    /// Begins one, and in such a way that it is also aborted if nobody waits for that any more.
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
            // Dropped where nobody takes it.
            drop(began.send(upload));
        });
        beginning.await.unwrap_or_else(|_| {
            Err(object_store::Error::Generic {
                store: "S3",
                source: "the runtime is ending".into(),
            })
        })
    }

    pub(super) fn put(&mut self, part: Bytes) -> UploadPart {
        self.upload().put_part(part.into())
    }

    pub(super) async fn complete(&mut self) -> object_store::Result<()> {
        self.upload().complete().await.map(drop)
    }

    /// It is complete: there is nothing to abort.
    pub(super) fn forget(mut self) {
        self.upload = None;
    }

    fn upload(&mut self) -> &mut dyn MultipartUpload {
        let upload = self.upload.as_mut();
        upload.expect("it is there until it is dropped").as_mut()
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
                // What is not there need not be removed.
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(_) => warn!("what was uploaded of {key} could not be removed; a rule of the bucket should remove what is incomplete"),
            }
        });
    }
}
