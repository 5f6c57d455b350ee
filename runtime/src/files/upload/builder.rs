//! Uploads to the job's bucket.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hyper::header::HeaderValue;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ObjectStore as _, ObjectStoreExt as _, PutMultipartOptions, PutOptions,
};
use podwork_protocol::RawValue;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use tokio::fs;
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::sync::OnceCell;
use tracing::{debug, warn};
use url::Url;

use crate::bucket::{Bucket, Keys, Misplaced, Origin};
use crate::context::Context;
use crate::files::guard::Guard;
use crate::files::transferred::Transferred;
use crate::strict::to_raw_value;

use super::error::UploadError;
use super::key::key;
use super::multipart::Multipart;
use super::source::Source;
use super::store::{Store, Trouble};

/// Bytes of a part; what is no larger is sent whole.
const PART: usize = 16 * 1024 * 1024;
/// Most parts that S3 takes.
const MOST_PARTS: usize = 10_000;
/// Parts on their way at once.
const AT_ONCE: usize = 4;
/// How long nothing may move.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest that a URL can be signed for.
const LONGEST_LIFETIME: Duration = Duration::from_hours(7 * 24);
/// What stands for a bucket where there is none; as the official worker calls it.
const FOLDER: &str = "simulated_uploaded";

/// Uploads what a job has made, for a URL that clients can get it by.
///
/// It goes to the bucket that the request names (`s3Config`), else to that of the environment (`BUCKET_ENDPOINT_URL`,
/// `BUCKET_ACCESS_KEY_ID`, `BUCKET_SECRET_ACCESS_KEY`, and `BUCKET_NAME` unless the URL has it). Without either, it is
/// saved in the folder `simulated_uploaded`, with a warning, and the URL is a `file:` one: that is for trying a worker
/// at home.
///
/// In the bucket it is called `<job's id>/<name>`; with a number, if the job has uploaded one of that name already.
///
/// What is over 16 MiB goes in parts of that size, 4 at once, so an upload holds 80 MiB at most. What breaks is tried
/// again, part by part, 5 times. An upload that fails, or whose job is stopped, leaves nothing behind.
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
    lifetime: Duration,
    patience: Duration,
    progress: Option<Box<dyn Fn(Transferred) + Send + Sync + 'a>>,
    place: OnceCell<Option<(Bucket, Arc<Store>)>>,
}

impl fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("content_type", &self.content_type)
            .field("lifetime", &self.lifetime)
            .field("patience", &self.patience)
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
            lifetime: LONGEST_LIFETIME,
            patience: PATIENCE,
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
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// How long nothing may move before a request counts as broken; 1 minute unless it is set.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
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
    pub async fn file(&self, path: impl AsRef<FilePath>) -> Result<Uploaded, UploadError> {
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
        path: impl AsRef<FilePath>,
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
        self.send(name, Source::reader(file), Some(size.len()))
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
        self.send(name, Source::Bytes(bytes), Some(size)).await
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
        self.send(name, Source::reader(reader), None).await
    }

    /// [`file`](Self::file) for a handler that is a plain `fn`.
    ///
    /// # Errors
    /// As there; or the job is told to stop.
    ///
    /// # Panics
    /// It is called in async code.
    pub fn file_blocking(&self, path: impl AsRef<FilePath>) -> Result<Uploaded, UploadError> {
        let uploaded = self.cx.wait(self.file(path));
        uploaded.unwrap_or(Err(UploadError::Stopped))
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
        path: impl AsRef<FilePath>,
    ) -> Result<Uploaded, UploadError> {
        let uploaded = self.cx.wait(self.file_as(name, path));
        uploaded.unwrap_or(Err(UploadError::Stopped))
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
        let uploaded = self.cx.wait(self.bytes(name, bytes));
        uploaded.unwrap_or(Err(UploadError::Stopped))
    }

    async fn send(
        &self,
        name: &str,
        mut source: Source<'_>,
        size: Option<u64>,
    ) -> Result<Uploaded, UploadError> {
        let lifetime = self.lifetime;
        if !(Duration::from_secs(1)..=LONGEST_LIFETIME).contains(&lifetime) {
            return Err(UploadError::Lifetime { lifetime });
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
            Some((bucket, store)) => {
                let to = Target {
                    cx: self.cx,
                    bucket,
                    store,
                    key: &key,
                    kind,
                };
                to.upload(&mut source, &mut sent).await?;
                to.url(name, lifetime).await?
            }
        };
        sent.of = Some(sent.bytes);
        sent.tell();
        let bytes = sent.bytes;
        debug!("{key} was uploaded: {bytes} bytes.");
        Ok(Uploaded { url, key, bytes })
    }

    /// Where uploads go; `None`: into a folder.
    async fn place(&self, name: &str) -> Result<Option<(Bucket, Arc<Store>)>, UploadError> {
        let Some(bucket) = bucket_of(self.cx)? else {
            return Ok(None);
        };
        let settings = self.cx.upload_settings();
        // Whoever runs the worker may well have its storage in their own network.
        let trusted = bucket.origin == Origin::Environment;
        let guard = Guard::new(trusted || settings.allow_private);
        let (to, patience) = (bucket.clone(), self.patience);
        let opening = tokio::task::spawn_blocking(move || Store::open(&to, guard, patience)).await;
        let opened = opening.map_err(|_| UploadError::Stopped)?;
        let store = opened.map_err(|trouble| UploadError::of(Some(trouble), name, &bucket))?;
        Ok(Some((bucket, Arc::new(store))))
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

/// The job's bucket: the one that it names, or else its worker's.
fn bucket_of(cx: &Context) -> Result<Option<Bucket>, UploadError> {
    match cx.extra().get("s3Config") {
        None | Some(Value::Null) => Ok(cx.upload_settings().bucket.clone()),
        Some(Value::Object(config)) => bucket_in(config).map(Some),
        Some(_) => Err(UploadError::Config {
            setting: "s3Config",
            problem: "it is no object".to_owned(),
        }),
    }
}

fn bucket_in(config: &Map<String, Value>) -> Result<Bucket, UploadError> {
    let names = Origin::Job.names();
    let text = |setting: &'static str| {
        let member = setting.rsplit('.').next().unwrap_or(setting);
        match config.get(member) {
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.trim()),
            None | Some(Value::Null | Value::String(_)) => Err(UploadError::Config {
                setting,
                problem: "it is missing".to_owned(),
            }),
            // It is not shown: it may be a secret.
            Some(_) => Err(UploadError::Config {
                setting,
                problem: "it is no text".to_owned(),
            }),
        }
    };
    let endpoint = text(names.endpoint)?;
    let keys = Keys {
        id: text(names.id)?.to_owned(),
        secret: text(names.secret)?.to_owned(),
    };
    let name = text(names.bucket).ok();
    Bucket::at(endpoint, name, None, keys, Origin::Job).map_err(|misplaced| {
        let (setting, problem) = match misplaced {
            Misplaced::Url(problem) => (names.endpoint, problem),
            Misplaced::Name(problem) => (names.bucket, problem),
            Misplaced::Unnamed => (
                names.bucket,
                "it is missing, and endpointUrl does not name the bucket".to_owned(),
            ),
            Misplaced::Keys => (
                names.id,
                "it holds characters that no HTTP header can carry".to_owned(),
            ),
            Misplaced::Region(_) => unreachable!("a job tells no region"),
        };
        UploadError::Config { setting, problem }
    })
}

/// How far an upload is.
struct Sent<'a> {
    name: &'a str,
    bytes: u64,
    of: Option<u64>,
    report: Option<&'a (dyn Fn(Transferred) + Send + Sync)>,
}

impl Sent<'_> {
    fn tell(&self) {
        if let Some(report) = self.report {
            report(Transferred {
                bytes: self.bytes,
                of: self.of,
            });
        }
    }

    fn unread(&self, source: std::io::Error) -> UploadError {
        let name = self.name.to_owned();
        UploadError::Read { name, source }
    }
}

/// Where one upload goes.
struct Target<'a> {
    cx: &'a Context,
    bucket: &'a Bucket,
    store: &'a Arc<Store>,
    key: &'a str,
    kind: String,
}

impl Target<'_> {
    async fn upload(
        &self,
        source: &mut Source<'_>,
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
            put.await.map_err(|_| self.trouble(sent.name))?;
            sent.bytes = bytes;
            return Ok(());
        }
        self.in_parts([first, next], size, source, sent).await
    }

    async fn in_parts(
        &self,
        ready: [Bytes; 2],
        size: usize,
        source: &mut Source<'_>,
        sent: &mut Sent<'_>,
    ) -> Result<(), UploadError> {
        let path = self.path(sent.name)?;
        let options = PutMultipartOptions::from(self.attributes());
        let begun = Multipart::begin(self.cx, Arc::clone(self.store), &path, options).await;
        let mut upload = begun.map_err(|_| self.trouble(sent.name))?;
        // Dropped before `upload` is: what is on its way is given up before the whole is.
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
                    sent.bytes += put.map_err(|_| self.trouble(sent.name))?;
                    sent.tell();
                }
                else => break,
            }
        }
        drop(going);
        if upload.complete().await.is_err() {
            let trouble = self.store.trouble();
            if !self.is_complete(trouble.as_ref(), &path, sent.bytes).await {
                return Err(UploadError::of(trouble, sent.name, self.bucket));
            }
        }
        upload.forget();
        Ok(())
    }

    /// Whether it is all there, and only the answer that said so was lost: asked again, the service knows no such
    /// upload any more.
    async fn is_complete(&self, trouble: Option<&Trouble>, path: &Path, bytes: u64) -> bool {
        let gone = matches!(
            trouble,
            Some(Trouble::Refused { code: Some(code), .. }) if code == "NoSuchUpload"
        );
        gone && matches!(self.store.s3.head(path).await, Ok(there) if there.size == bytes)
    }

    async fn url(&self, name: &str, lifetime: Duration) -> Result<String, UploadError> {
        let url = self.store.url(&self.path(name)?, lifetime).await;
        url.map_err(|_| self.trouble(name))
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

    fn trouble(&self, name: &str) -> UploadError {
        UploadError::of(self.store.trouble(), name, self.bucket)
    }
}

/// Bytes of each part, so that they are few enough.
fn part_size(of: Option<u64>) -> usize {
    let Ok(of) = usize::try_from(of.unwrap_or(0)) else {
        return PART;
    };
    PART.max(of.div_ceil(MOST_PARTS))
}

/// Saves it in the folder that stands for a bucket, and says where by a URL.
async fn save(
    key: &str,
    source: &mut Source<'_>,
    sent: &mut Sent<'_>,
) -> Result<String, UploadError> {
    let folder = std::path::absolute(FOLDER).unwrap_or_else(|_| FOLDER.into());
    warn!(
        "{} is only saved in {}: {} is not set, and the request has no s3Config.",
        sent.name,
        folder.display(),
        Origin::Environment.names().endpoint
    );
    let failed = |source| UploadError::Disk {
        name: sent.name.to_owned(),
        folder: folder.display().to_string(),
        source,
    };
    let path = folder.join(key);
    let begun = path.with_added_extension("partial");
    let bytes = match write(&begun, source).await {
        Ok(bytes) => bytes,
        Err(unwritten) => {
            // The error says more than a second one would.
            let _ = fs::remove_file(&begun).await;
            return Err(match unwritten {
                Unwritten::Read(error) => sent.unread(error),
                Unwritten::Disk(error) => failed(error),
            });
        }
    };
    fs::rename(&begun, &path).await.map_err(failed)?;
    let url = Url::from_file_path(&path)
        .map_err(|()| failed(std::io::ErrorKind::InvalidFilename.into()))?;
    sent.bytes = bytes;
    Ok(url.into())
}

/// Why a file was not written: by whose fault.
enum Unwritten {
    Read(std::io::Error),
    Disk(std::io::Error),
}

async fn write(path: &PathBuf, source: &mut Source<'_>) -> Result<u64, Unwritten> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).await.map_err(Unwritten::Disk)?;
    }
    let mut file = fs::File::create(path).await.map_err(Unwritten::Disk)?;
    let mut written = 0;
    loop {
        let part = source.next(PART).await.map_err(Unwritten::Read)?;
        if part.is_empty() {
            file.flush().await.map_err(Unwritten::Disk)?;
            return Ok(written);
        }
        file.write_all(&part).await.map_err(Unwritten::Disk)?;
        written += part.len() as u64;
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
