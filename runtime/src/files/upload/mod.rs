//! Uploads of files to a bucket.

mod builder;
mod error;
mod folder;
mod key;
mod multipart;
mod place;
mod source;
mod store;
mod transfer;

pub use crate::config::UploadUrl;
pub(crate) use builder::upload_output;
pub use builder::{Upload, Uploaded};
pub use error::UploadError;
