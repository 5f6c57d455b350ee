//! From a job to its bucket.

mod builder;
mod error;
mod key;
mod multipart;
mod source;
mod store;

pub(crate) use builder::upload_output;
pub use builder::{Upload, Uploaded};
pub use error::UploadError;
