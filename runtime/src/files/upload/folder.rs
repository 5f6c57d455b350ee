//! The local folder that replaces a bucket if no bucket is configured.

use std::io;
use std::path::Path;

use tempfile::NamedTempFile;
use tokio::fs;
use tokio::io::AsyncWriteExt as _;
use tracing::warn;
use url::Url;

use crate::config::bucket::BucketOrigin;

use super::error::UploadError;
use super::source::UploadSource;
use super::transfer::{PART, Sent};

/// The name that the official worker uses.
const FOLDER: &str = "simulated_uploaded";

/// Saves an upload in the local folder and returns its `file:` URL.
pub(super) async fn save(
    key: &str,
    source: &mut UploadSource<'_>,
    sent: &mut Sent<'_>,
) -> Result<String, UploadError> {
    let folder = std::path::absolute(FOLDER).unwrap_or_else(|_| FOLDER.into());
    warn!(
        upload = sent.name,
        folder = %folder.display(),
        "{} is not set and the request has no s3Config; saving the upload in a local folder.",
        BucketOrigin::Environment.names().endpoint
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

/// The cause of a failed write: the source of the upload, or the disk.
enum Unwritten {
    Read(io::Error),
    Disk(io::Error),
}

/// Writes to a temporary file and renames it at the end: a cancelled upload leaves nothing, and a file is always
/// complete.
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

/// Creates a hidden temporary file with the permissions of an ordinary file, so that others can read it.
fn begin(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".").tempfile_in(folder)
}
