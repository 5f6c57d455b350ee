//! The folder that stands for a bucket where there is none.

use std::path::PathBuf;

use tokio::fs;
use tokio::io::AsyncWriteExt as _;
use tracing::warn;
use url::Url;

use crate::bucket::Origin;

use super::error::UploadError;
use super::source::Source;
use super::transfer::{PART, Sent};

/// As the official worker calls it.
const FOLDER: &str = "simulated_uploaded";

/// Saves it in the folder that stands for a bucket, and says where by a URL.
pub(super) async fn save(
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
