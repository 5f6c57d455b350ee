//! Uploads to the job's bucket.

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
use tracing::debug;

use crate::config::bucket::{Bucket, Origin};
use crate::files::transferred::Transferred;
use crate::handler::Context;
use crate::handler::json::to_raw_value;
use crate::net::public_only::AddressGuard;
use crate::renamed::renamed;

use super::error::UploadError;
use super::folder::save;
use super::key::key;
use super::place::bucket_of;
use super::source::UploadSource;
use super::store::BucketClient;
use super::transfer::{Sent, UploadTarget};

/// How long nothing may move.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest that a URL can be signed for.
const LONGEST_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// Uploads what a job has made, for a URL that clients can get it by.
///
/// It goes to the bucket that the request names (`s3Config`), else to that of the environment (`BUCKET_ENDPOINT_URL`,
/// `BUCKET_ACCESS_KEY_ID`, `BUCKET_SECRET_ACCESS_KEY`, and `BUCKET_NAME` unless the URL has it). Without either, it is
/// saved in the folder `simulated_uploaded`, with a warning, and the URL is a `file:` one: that is for trying a worker
/// at home.
///
/// In the bucket it is called `<job's id>/<name>`; with a number, if the job has uploaded one of that name already.
///
/// What is over 16 MiB goes in parts of that size, 4 at once, so an upload holds 80 MiB at most; over 160 GB parts grow,
/// as there are 10,000 at most. What breaks is tried again, part by part, 5 times within 10 minutes. An upload that fails,
/// or whose job is stopped, leaves nothing behind.
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
/// Many small files are best uploaded by one value of this type: it keeps its connections.
#[must_use = "nothing is uploaded before `file`, `bytes` or `reader`"]
pub struct Upload<'a> {
    cx: &'a Context,
    content_type: Option<String>,
    expires_in: Duration,
    idle_timeout: Duration,
    progress: Option<Box<dyn Fn(Transferred) + Send + Sync + 'a>>,
    place: OnceCell<Option<(Bucket, BucketClient)>>,
}

impl fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("content_type", &self.content_type)
            .field("expires_in", &self.expires_in)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}

/// What was uploaded. In an output it is its URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Uploaded {
    url: String,
    key: String,
    bytes: u64,
}

impl Uploaded {
    /// The URL by which anybody can get it, until its time is over.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it is called in the bucket.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Without the signature, by which anybody could get it.
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
    /// Uploads of this job.
    pub fn new(cx: &'a Context) -> Self {
        Self {
            cx,
            content_type: None,
            expires_in: LONGEST_LIFETIME,
            idle_timeout: IDLE_TIMEOUT,
            progress: None,
            place: OnceCell::new(),
        }
    }

    /// What kind of file it is, such as `image/png`, for who gets it; by its name's ending unless it is set.
    pub fn content_type(mut self, kind: impl Into<String>) -> Self {
        self.content_type = Some(kind.into());
        self
    }

    /// How long the URL is good; 7 days unless it is set, and that is the most.
    pub fn expires_in(mut self, expires_in: Duration) -> Self {
        self.expires_in = expires_in;
        self
    }

    renamed! {
        lifetime => expires_in,
        patience => idle_timeout,
    }

    /// How long nothing may move before a request counts as broken; 1 minute unless it is set.
    pub fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    /// Calls `report` with how far each upload is: after each of its parts, and once it is done.
    pub fn progress(mut self, report: impl Fn(Transferred) + Send + Sync + 'a) -> Self {
        self.progress = Some(Box::new(report));
        self
    }

    /// Uploads a file, under its own name.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub async fn file(&self, path: impl AsRef<Path>) -> Result<Uploaded, UploadError> {
        let path = path.as_ref();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| UploadError::Name {
            name: path.display().to_string(),
            problem: "it does not end in a name of letters".to_owned(),
        })?;
        self.file_as(name, path).await
    }

    /// Uploads a file under another name, which may have folders in it: `frames/1.png`.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub async fn file_as(
        &self,
        name: &str,
        path: impl AsRef<Path>,
    ) -> Result<Uploaded, UploadError> {
        let unread = |source| UploadError::Read {
            name: path.as_ref().display().to_string(),
            source,
        };
        // Before it is opened: who opens a pipe may wait for long.
        let size = fs::metadata(path.as_ref()).await.map_err(unread)?;
        if !size.is_file() {
            let problem = "it is no file, but a folder, a pipe or a device";
            return Err(unread(std::io::Error::other(problem)));
        }
        let file = fs::File::open(path.as_ref()).await.map_err(unread)?;
        self.send(name, UploadSource::reader(file), Some(size.len()))
            .await
    }

    /// Uploads bytes, under a name as in [`file_as`](Self::file_as).
    ///
    /// # Errors
    /// See [`UploadError`].
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

    /// Uploads what a reader brings, to its end, under a name as in [`file_as`](Self::file_as); 160 GB at most.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub async fn reader(
        &self,
        name: &str,
        reader: impl AsyncRead + Send,
    ) -> Result<Uploaded, UploadError> {
        self.send(name, UploadSource::reader(reader), None).await
    }

    /// [`file`](Self::file) for a handler that is a plain `fn`.
    ///
    /// # Errors
    /// As there; or the job is told to stop.
    ///
    /// # Panics
    /// It is called in async code.
    pub fn file_blocking(&self, path: impl AsRef<Path>) -> Result<Uploaded, UploadError> {
        self.cx.wait(self.file(path), UploadError::Stopped)
    }

    /// [`file_as`](Self::file_as) for a handler that is a plain `fn`.
    ///
    /// # Errors
    /// As there; or the job is told to stop.
    ///
    /// # Panics
    /// It is called in async code.
    pub fn file_as_blocking(
        &self,
        name: &str,
        path: impl AsRef<Path>,
    ) -> Result<Uploaded, UploadError> {
        self.cx.wait(self.file_as(name, path), UploadError::Stopped)
    }

    /// [`bytes`](Self::bytes) for a handler that is a plain `fn`.
    ///
    /// # Errors
    /// As there; or the job is told to stop.
    ///
    /// # Panics
    /// It is called in async code.
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
                to.url(name, expires_in).await?
            }
        };
        sent.of = Some(sent.bytes);
        sent.tell();
        let bytes = sent.bytes;
        debug!("{key} was uploaded: {bytes} bytes.");
        Ok(Uploaded { url, key, bytes })
    }

    /// Where uploads go; `None`: into a folder.
    async fn place(&self, name: &str) -> Result<Option<(Bucket, BucketClient)>, UploadError> {
        let Some(bucket) = bucket_of(self.cx)? else {
            return Ok(None);
        };
        let settings = self.cx.upload_settings();
        // Whoever runs the worker may well have its storage in their own network.
        let trusted = bucket.origin == Origin::Environment;
        let guard = AddressGuard::new(trusted || settings.allow_private);
        let (to, idle_timeout) = (bucket.clone(), self.idle_timeout);
        let opening =
            tokio::task::spawn_blocking(move || BucketClient::new(&to, guard, idle_timeout)).await;
        let opened = opening.map_err(|_| UploadError::Stopped)?;
        let service = opened.map_err(|failure| UploadError::of(Some(failure), name, &bucket))?;
        Ok(Some((bucket, service)))
    }

    /// What kind of file it is.
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

/// Uploads an output that is too large to be delivered, and says in its place where it is.
pub(crate) async fn upload_output(
    cx: &Context,
    output: Box<RawValue>,
) -> Result<Box<RawValue>, UploadError> {
    if bucket_of(cx)?.is_none() {
        // A file on a worker is nothing to a client.
        return Err(UploadError::NoBucket);
    }
    let text: Box<str> = output.into();
    let upload = Upload::new(cx);
    let uploaded = upload.bytes("output.json", String::from(text)).await?;
    let place = json!({ "output_url": uploaded.url(), "bytes": uploaded.bytes() });
    Ok(to_raw_value(&place).expect("a Value is always JSON"))
}
