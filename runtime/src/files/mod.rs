//! Files of jobs: downloads from the URLs in their input and extraction of zip archives (feature `download`), and
//! uploads to a bucket (feature `upload`).
//!
//! A job's input comes from outside, and so do the URLs in it. Downloads therefore connect only to the public internet,
//! never to the worker's own network. Files are stored in the job's [folder](crate::Context::folder), which is removed
//! when the job ends. [`Upload`] stores files in a bucket and returns a URL for the output.
//!
//! [`RemoteFile`] is a URL, and [`InputFile`] a URL or base64.
//!
//! ```
//! use podwork::files::{RemoteFile, Unzip};
//! use podwork::testing::TestJob;
//! use podwork::{Context, Result, handler};
//! use serde::Deserialize;
//! use serde_json::json;
//!
//! #[derive(Deserialize)]
//! struct Request {
//!     image: RemoteFile,             // a URL, or {"url": …, "sha256": …, "name": …}
//!     masks: Option<RemoteFile>,
//! }
//!
//! #[handler]
//! async fn measure(input: Request, cx: Context) -> Result<u64> {
//!     let image = input.image.download(&cx).await?;
//!     if let Some(masks) = input.masks {
//!         let archive = masks.download(&cx).await?;
//!         let _folder = Unzip::new(&cx).extract(&archive).await?;
//!     }
//!     Ok(std::fs::metadata(image)?.len())
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let job = TestJob::new(json!({"image": "data:image/gif;base64,R0lGODlhAQABAA=="}));
//! assert_eq!(job.run::<measure>().await.result.unwrap(), json!(10));
//! # });
//! ```

#[cfg(feature = "download")]
mod download;
mod numbered;
mod transferred;
#[cfg(feature = "upload")]
mod upload;

#[cfg(feature = "download")]
pub use download::{DownloadError, Downloads, InputFile, RemoteFile, Unzip, UnzipError};
pub use transferred::Transferred;
#[cfg(feature = "upload")]
pub(crate) use upload::upload_output;
#[cfg(feature = "upload")]
pub use upload::{Upload, UploadError, UploadUrl, Uploaded};

#[cfg(feature = "download")]
crate::error::handler_error::error_kind!(DownloadError, "download_failed");
#[cfg(feature = "download")]
crate::error::handler_error::error_kind!(UnzipError, "unzip_failed");
#[cfg(feature = "upload")]
crate::error::handler_error::error_kind!(UploadError, "upload_failed");
