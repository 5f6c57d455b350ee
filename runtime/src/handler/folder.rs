//! A job's folder, for what it keeps on disk while it runs.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;
use tokio::runtime::Handle;
#[cfg(feature = "download")]
use tokio_util::task::TaskTracker;
use tracing::warn;

/// Made when it is first asked for, and gone with its job.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    // Held while a folder is made, and never across an await.
    place: Mutex<FolderState>,
    /// What goes on in it on threads of its own; it stays until that has ended.
    #[cfg(feature = "download")]
    work: TaskTracker,
}

#[derive(Debug, Default)]
enum FolderState {
    #[default]
    Unmade,
    Made(TempDir),
    Gone,
}

impl Folder {
    /// Where it is; it is made if it is not there yet.
    pub(crate) fn path(&self) -> io::Result<PathBuf> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*place, FolderState::Unmade) {
            *place = FolderState::Made(make()?);
        }
        match &*place {
            FolderState::Made(made) => Ok(made.path().to_owned()),
            _ => Err(io::Error::other(
                "the job has ended, and its folder with it",
            )),
        }
    }

    /// Runs what may block, on a thread that may.
    #[cfg(feature = "download")]
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        self.work
            .spawn_blocking(work)
            .await
            .map_err(io::Error::from)
    }

    /// Removes it with all that is in it. There will be none after it.
    pub(crate) async fn remove(&self) {
        #[cfg(feature = "download")]
        {
            self.work.close();
            self.work.wait().await;
        }
        if let Some(made) = self.take() {
            // It is only not run at all when the runtime ends, and then dropped, which removes it as well.
            let _ = tokio::task::spawn_blocking(|| close(made)).await;
        }
    }

    fn take(&self) -> Option<TempDir> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *place, FolderState::Gone) {
            FolderState::Made(made) => Some(made),
            _ => None,
        }
    }
}

/// For a job that was dropped where it stood.
impl Drop for Folder {
    fn drop(&mut self) {
        let Some(made) = self.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(|| close(made))),
            Err(_) => close(made),
        }
    }
}

fn make() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("podwork-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o700));
    }
    builder.tempdir()
}

fn close(made: TempDir) {
    let path = made.path().to_owned();
    if let Err(error) = made.close() {
        warn!(
            "the job's folder {} could not be removed: {error}",
            path.display()
        );
    }
}
