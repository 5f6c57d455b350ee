//! Downloads from URLs into a job's folder, and extraction of archives.

mod address;
mod base64;
mod client;
mod downloads;
mod error;
mod headers;
mod input_file;
mod name;
mod partial;
mod remote_file;
#[cfg(feature = "schema")]
mod schema;
mod speed;
mod tally;
mod transfer;
mod unzip;

pub use downloads::Downloads;
pub use error::DownloadError;
pub use input_file::InputFile;
pub use remote_file::RemoteFile;
pub use unzip::{Unzip, UnzipError};
