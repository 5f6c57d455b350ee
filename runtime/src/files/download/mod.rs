//! Downloads from URLs into a job's folder, and extraction of archives.

mod address;
mod client;
mod downloads;
mod error;
mod name;
mod partial;
mod remote_file;
mod speed;
mod tally;
mod transfer;
mod unzip;

pub use downloads::Downloads;
pub use error::DownloadError;
pub use remote_file::RemoteFile;
pub use unzip::{Unzip, UnzipError};
