//! Files that jobs bring along: downloads from the URLs in their input, and what is in archives (feature `download`).
//! And files that they leave behind: [`Upload`] puts them into a bucket, for a URL in the output (feature `upload`).
//!
//! A job's input comes from outside, and so do the URLs in it. So a file is only fetched from the public internet,
//! never from the worker's own network, and into the job's [folder](crate::Context::folder), which goes with the job.
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

mod address;
#[cfg(feature = "download")]
mod client;
#[cfg(feature = "download")]
mod downloads;
#[cfg(feature = "download")]
mod error;
mod guard;
#[cfg(feature = "upload")]
mod key;
#[cfg(feature = "upload")]
mod multipart;
#[cfg(feature = "download")]
mod name;
#[cfg(feature = "download")]
mod partial;
#[cfg(feature = "download")]
mod remote_file;
#[cfg(feature = "upload")]
mod source;
#[cfg(feature = "upload")]
mod store;
#[cfg(feature = "download")]
mod tally;
mod tls;
mod transferred;
#[cfg(feature = "download")]
mod unzip;
#[cfg(feature = "upload")]
mod upload;
#[cfg(feature = "upload")]
mod upload_error;
#[cfg(feature = "download")]
mod zip64;

#[cfg(feature = "download")]
pub use downloads::Downloads;
#[cfg(feature = "download")]
pub use error::DownloadError;
#[cfg(feature = "download")]
pub use remote_file::RemoteFile;
pub use transferred::Transferred;
#[cfg(feature = "download")]
pub use unzip::{Unzip, UnzipError};
#[cfg(feature = "upload")]
pub(crate) use upload::upload_output;
#[cfg(feature = "upload")]
pub use upload::{Upload, Uploaded};
#[cfg(feature = "upload")]
pub use upload_error::UploadError;
