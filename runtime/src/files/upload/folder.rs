//! The folder that stands for a bucket where there is none.

use std::io;
use std::path::Path;

use tempfile::NamedTempFile;
use tokio::fs;
use tokio::io::AsyncWriteExt as _;
use tracing::warn;
use url::Url;

use crate::config::bucket::Origin;

use super::error::UploadError;
use super::source::UploadSource;
use super::transfer::{PART, Sent};

/// As the official worker calls it.
const FOLDER: &str = "simulated_uploaded";

/// Saves it in the folder that stands for a bucket, and says where by a URL.
pub(super) async fn save(
    key: &str,
    source: &mut UploadSource<'_>,
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
    let written = write(&path, source).await;
    let bytes = written.map_err(|unwritten| match unwritten {
        Unwritten::Read(error) => sent.unread(error),
        Unwritten::Disk(error) => failed(error),
    })?;
    let url =
        Url::from_file_path(&path).map_err(|()| failed(io::ErrorKind::InvalidFilename.into()))?;
    sent.bytes = bytes;
    Ok(url.into())
}

/// Why a file was not written: by whose fault.
enum Unwritten {
    Read(io::Error),
    Disk(io::Error),
}

/// Writes it beside its place first: what is given up is gone, and what is there is whole.
async fn write(path: &Path, source: &mut UploadSource<'_>) -> Result<u64, Unwritten> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).await.map_err(Unwritten::Disk)?;
    let begun = begin(folder).map_err(Unwritten::Disk)?;
    let (file, begun) = begun.into_parts();
    let mut file = fs::File::from_std(file);
    let mut written = 0;
    loop {
        let part = source.next(PART).await.map_err(Unwritten::Read)?;
        if part.is_empty() {
            break;
        }
        file.write_all(&part).await.map_err(Unwritten::Disk)?;
        written += part.len() as u64;
    }
    file.flush().await.map_err(Unwritten::Disk)?;
    begun
        .persist(path)
        .map_err(|error| Unwritten::Disk(error.error))?;
    Ok(written)
}

/// A hidden file, which others may read as they may read any.
fn begin(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".").tempfile_in(folder)
}
