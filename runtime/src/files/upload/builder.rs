//! The public API of uploads.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use podwork_protocol::RawValue;
use serde::{Serialize, Serializer};
use serde_json::json;
use tokio::fs;
use tokio::io::AsyncRead;
use tokio::sync::OnceCell;
use tracing::{debug, warn};

use crate::config::UploadUrl;
use crate::config::bucket::{Bucket, BucketOrigin};
use crate::files::transferred::Transferred;
use crate::handler::Context;
use crate::handler::json::to_raw_value;
use crate::net::public_only::AddressGuard;
use crate::renamed::renamed;
use crate::threads;

use super::error::UploadError;
use super::folder::save;
use super::key::key;
use super::place::bucket_of;
use super::source::UploadSource;
use super::store::BucketClient;
use super::transfer::{Sent, UploadTarget};

/// The default of [`Upload::idle_timeout`].
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// The longest lifetime that S3 allows for a signed URL.
const LONGEST_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// Uploads files of a job to a bucket and returns signed URLs, from which clients can download them, or URLs of another
/// [form](Self::url_form).
///
/// The bucket is the one that the request names (`s3Config`), or else the one in the worker's environment
/// (`BUCKET_ENDPOINT_URL`, `BUCKET_ACCESS_KEY_ID`, `BUCKET_SECRET_ACCESS_KEY`, and `BUCKET_NAME` if the URL does not
/// contain the bucket's name). Without a bucket, files are saved in the folder `simulated_uploaded`, a warning is
/// logged, and the URL is a `file:` URL: this is for running a worker locally.
///
/// The object's key is `<job id>/<name>`. If the job has already uploaded a file of that name, a number is added to it.
///
/// Files over 16 MiB are uploaded in parts of that size, 4 at a time, so an upload needs at most 80 MiB of memory. S3
/// allows 10,000 parts, so the parts of files over 160 GB are larger. Each failed request is retried up to 5 times
/// within 10 minutes. An upload that fails, or whose job is cancelled, leaves nothing in the bucket.
///
/// ```no_run
/// use podwork::files::{Upload, Uploaded};
/// use podwork::{Context, Result, handler};
///
/// #[handler]
/// async fn draw(prompt: String, cx: Context) -> Result<Uploaded> {
///     let image = format!("<svg><!-- {prompt} --></svg>");
///     Ok(Upload::new(&cx).bytes("drawing.svg", image).await?)
/// }
///
/// fn main() -> podwork::ExitCode {
///     podwork::run::<draw>() // the output is the URL
/// }
/// ```
///
/// Use one `Upload` for many small files: it keeps its connections open.
#[must_use = "does nothing until `file`, `bytes` or `reader` is called"]
pub struct Upload<'a> {
    cx: &'a Context,
    content_type: Option<String>,
    expires_in: Duration,
    url_form: Option<UploadUrl>,
    idle_timeout: Duration,
    progress: Option<Box<dyn Fn(Transferred) + Send + Sync + 'a>>,
    place: OnceCell<Option<(Bucket, BucketClient)>>,
}

impl fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("content_type", &self.content_type)
            .field("expires_in", &self.expires_in)
            .field("url_form", &self.url_form)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}

/// An uploaded file. It serializes as its URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Uploaded {
    url: String,
    key: String,
    bytes: u64,
}

impl Uploaded {
    /// Returns the URL. Unless another [form](Upload::url_form) is set, it is signed: anyone with it can download the
    /// file until it expires.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the object's key in the bucket.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Omits the URL: anyone with it can download the file.
impl fmt::Debug for Uploaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploaded")
            .field("key", &self.key)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Serialize for Uploaded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.url)
    }
}

impl<'a> Upload<'a> {
    /// Creates an uploader for this job.
    pub fn new(cx: &'a Context) -> Self {
        Self {
            cx,
            content_type: None,
            expires_in: LONGEST_LIFETIME,
            url_form: None,
            idle_timeout: IDLE_TIMEOUT,
            progress: None,
            place: OnceCell::new(),
        }
    }

    /// Sets the `Content-Type`, such as `image/png`. Default: guessed from the extension of the name.
    pub fn content_type(mut self, kind: impl Into<String>) -> Self {
        self.content_type = Some(kind.into());
        self
    }

    /// Sets the lifetime of signed URLs, from 1 second to 7 days. Default: 7 days.
    pub fn expires_in(mut self, expires_in: Duration) -> Self {
        self.expires_in = expires_in;
        self
    }

    /// Sets the form of the URL that an upload returns. Default: `PODWORK_UPLOAD_URL` for the worker's own bucket, or
    /// else a signed URL. If the service is known not to support signed URLs, as for Runpod's network volumes, the
    /// default is [`UploadUrl::S3`].
    ///
    /// Without a bucket, the URL is always a `file:` URL.
    pub fn url_form(mut self, form: UploadUrl) -> Self {
        self.url_form = Some(form);
        self
    }

    renamed! {
        lifetime => expires_in,
        patience => idle_timeout,
    }

    /// Sets the time without any transferred data after which a request counts as failed. Default: 1 minute.
    pub fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    /// Calls `report` with the progress of each upload: after each part, and when the upload is complete.
    pub fn progress(mut self, report: impl Fn(Transferred) + Send + Sync + 'a) -> Self {
        self.progress = Some(Box::new(report));
        self
    }

    /// Uploads a file under its own name.
    ///
    /// # Errors
    /// Returns an [`UploadError`] if the upload fails.
    pub async fn file(&self, path: impl AsRef<Path>) -> Result<Uploaded, UploadError> {
        let path = path.as_ref();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| UploadError::Name {
            name: path.display().to_string(),
            problem: "the path does not end in a UTF-8 file name".to_owned(),
        })?;
        self.file_as(name, path).await
    }

    /// Uploads a file under another name, which may contain folders: `frames/1.png`.
    ///
    /// # Errors
    /// Returns an [`UploadError`] if the upload fails.
    pub async fn file_as(
        &self,
        name: &str,
        path: impl AsRef<Path>,
    ) -> Result<Uploaded, UploadError> {
        let unread = |source| UploadError::Read {
            name: path.as_ref().display().to_string(),
            source,
        };
        // Checked before opening, because opening a pipe may block.
        let size = fs::metadata(path.as_ref()).await.map_err(unread)?;
        if !size.is_file() {
            let problem = "not a regular file, but a folder, a pipe or a device";
            return Err(unread(std::io::Error::other(problem)));
        }
        let file = fs::File::open(path.as_ref()).await.map_err(unread)?;
        self.send(name, UploadSource::reader(file), Some(size.len()))
            .await
    }

    /// Uploads bytes under a name, which follows the rules of [`file_as`](Self::file_as).
    ///
    /// # Errors
    /// Returns an [`UploadError`] if the upload fails.
    pub async fn bytes(
        &self,
        name: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<Uploaded, UploadError> {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        self.send(name, UploadSource::Bytes(bytes), Some(size))
            .await
    }

    /// Uploads all data of a reader, at most 160 GB, under a name, which follows the rules of
    /// [`file_as`](Self::file_as).
    ///
    /// # Errors
    /// Returns an [`UploadError`] if the upload fails.
    pub async fn reader(
        &self,
        name: &str,
        reader: impl AsyncRead + Send,
    ) -> Result<Uploaded, UploadError> {
        self.send(name, UploadSource::reader(reader), None).await
    }

    /// Blocking variant of [`file`](Self::file), for handlers that are a plain `fn`.
    ///
    /// # Errors
    /// Returns the errors of [`file`](Self::file), or [`UploadError::Stopped`] if the job is cancelled.
    ///
    /// # Panics
    /// Panics if called in async code.
    pub fn file_blocking(&self, path: impl AsRef<Path>) -> Result<Uploaded, UploadError> {
        self.cx.wait(self.file(path), UploadError::Stopped)
    }

    /// Blocking variant of [`file_as`](Self::file_as), for handlers that are a plain `fn`.
    ///
    /// # Errors
    /// Returns the errors of [`file_as`](Self::file_as), or [`UploadError::Stopped`] if the job is cancelled.
    ///
    /// # Panics
    /// Panics if called in async code.
    pub fn file_as_blocking(
        &self,
        name: &str,
        path: impl AsRef<Path>,
    ) -> Result<Uploaded, UploadError> {
        self.cx.wait(self.file_as(name, path), UploadError::Stopped)
    }

    /// Blocking variant of [`bytes`](Self::bytes), for handlers that are a plain `fn`.
    ///
    /// # Errors
    /// Returns the errors of [`bytes`](Self::bytes), or [`UploadError::Stopped`] if the job is cancelled.
    ///
    /// # Panics
    /// Panics if called in async code.
    pub fn bytes_blocking(
        &self,
        name: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<Uploaded, UploadError> {
        self.cx.wait(self.bytes(name, bytes), UploadError::Stopped)
    }

    async fn send(
        &self,
        name: &str,
        mut source: UploadSource<'_>,
        size: Option<u64>,
    ) -> Result<Uploaded, UploadError> {
        let expires_in = self.expires_in;
        if !(Duration::from_secs(1)..=LONGEST_LIFETIME).contains(&expires_in) {
            return Err(UploadError::Lifetime {
                lifetime: expires_in,
            });
        }
        let kind = self.kind(name)?;
        let key = key(self.cx.id(), name, |name| self.cx.count_upload(name))?;
        let place = self.place.get_or_try_init(|| self.place(name)).await?;
        let mut sent = Sent {
            name,
            bytes: 0,
            of: size,
            report: self.progress.as_deref(),
        };
        let url = match place {
            None => save(&key, &mut source, &mut sent).await?,
            Some((bucket, service)) => {
                let store = service.store(bucket);
                let store = store.map_err(|why| UploadError::of(Some(why), name, bucket))?;
                let to = UploadTarget {
                    cx: self.cx,
                    bucket,
                    store: Arc::new(store),
                    key: &key,
                    kind,
                };
                to.upload(&mut source, &mut sent).await?;
                match self.form(bucket) {
                    UploadUrl::Signed => to.url(name, expires_in).await?,
                    UploadUrl::Object => bucket.object_url(&key),
                    UploadUrl::S3 => format!("s3://{}/{key}", bucket.name),
                }
            }
        };
        sent.of = Some(sent.bytes);
        sent.tell();
        let bytes = sent.bytes;
        debug!(key, bytes, "Upload complete.");
        Ok(Uploaded { url, key, bytes })
    }

    /// Returns the form of the URL of an upload to this bucket.
    fn form(&self, bucket: &Bucket) -> UploadUrl {
        let own = match bucket.origin {
            BucketOrigin::Environment => self.cx.upload_settings().url,
            BucketOrigin::Job => None,
        };
        let default = if bucket.can_sign_urls {
            UploadUrl::Signed
        } else {
            UploadUrl::S3
        };
        self.url_form.or(own).unwrap_or(default)
    }

    /// Returns the bucket for uploads and its client; `None` if they go to the local folder.
    async fn place(&self, name: &str) -> Result<Option<(Bucket, BucketClient)>, UploadError> {
        let Some(bucket) = bucket_of(self.cx)? else {
            return Ok(None);
        };
        let settings = self.cx.upload_settings();
        if bucket.origin == BucketOrigin::Job
            && self.form(&bucket) != UploadUrl::Signed
            && self.url_form.is_none()
        {
            warn!(
                host = bucket.host(),
                "The service of the job's bucket does not support signed URLs; returning s3:// URLs."
            );
        }
        // The operator's own storage may be in a private network.
        let trusted = bucket.origin == BucketOrigin::Environment;
        let guard = AddressGuard::new(trusted || settings.allow_private);
        let (to, idle_timeout) = (bucket.clone(), self.idle_timeout);
        let opening = threads::blocking(move || BucketClient::new(&to, guard, idle_timeout));
        let opened = opening
            .await
            .map_err(|error| UploadError::Thread(error.into()))?;
        let service = opened.map_err(|failure| UploadError::of(Some(failure), name, &bucket))?;
        Ok(Some((bucket, service)))
    }

    /// Returns the content type.
    fn kind(&self, name: &str) -> Result<String, UploadError> {
        let Some(kind) = &self.content_type else {
            let guess = mime_guess::from_path(name).first_or_octet_stream();
            return Ok(guess.to_string());
        };
        match HeaderValue::from_str(kind) {
            Ok(_) => Ok(kind.clone()),
            Err(_) => Err(UploadError::ContentType {
                kind: kind.escape_debug().to_string(),
            }),
        }
    }
}

/// Uploads an output that is over the size limit, and returns the JSON that replaces it: its URL and its size.
pub(crate) async fn upload_output(
    cx: &Context,
    output: Box<RawValue>,
) -> Result<Box<RawValue>, UploadError> {
    if bucket_of(cx)?.is_none() {
        // Clients cannot read the worker's local folder.
        return Err(UploadError::NoBucket);
    }
    let text: Box<str> = output.into();
    let upload = Upload::new(cx);
    let uploaded = upload.bytes("output.json", String::from(text)).await?;
    let place = json!({ "output_url": uploaded.url(), "bytes": uploaded.bytes() });
    Ok(to_raw_value(&place).expect("a Value is always JSON"))
}
