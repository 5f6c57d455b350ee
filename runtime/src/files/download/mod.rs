//! From URLs in a job's input to its folder, and out of archives there.

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
