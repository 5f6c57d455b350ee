//! Files that jobs bring along: downloads from the URLs in their input, and what is in archives (feature `download`).
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
mod client;
mod downloads;
mod error;
mod guard;
mod name;
mod partial;
mod remote_file;
mod tally;
mod unzip;
mod zip64;

pub use downloads::Downloads;
pub use error::DownloadError;
pub use remote_file::RemoteFile;
pub use tally::Transferred;
pub use unzip::{Unzip, UnzipError};
