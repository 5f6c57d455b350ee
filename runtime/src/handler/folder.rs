//! The temporary folder of a job.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;
use tokio::runtime::Handle;
#[cfg(feature = "download")]
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::threads;

/// A folder that is created on first use and removed when its job ends.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    // Locked while the folder is created, and never across an await.
    place: Mutex<FolderState>,
    /// The blocking work that uses the folder. The folder is not removed before this work has ended.
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
    /// Returns the path of the folder, and creates the folder on first use.
    pub(crate) fn path(&self) -> io::Result<PathBuf> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*place, FolderState::Unmade) {
            *place = FolderState::Made(make()?);
        }
        match &*place {
            FolderState::Made(made) => Ok(made.path().to_owned()),
            _ => Err(io::Error::other(
                "the job has ended and its folder was removed",
            )),
        }
    }

    /// Runs blocking work on a blocking thread.
    #[cfg(feature = "download")]
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let token = self.work.token();
        let tracked = move || {
            let _token = token;
            work()
        };
        Ok(threads::blocking(tracked).await?)
    }

    /// Removes the folder and its content. It cannot be created again.
    pub(crate) async fn remove(&self) {
        #[cfg(feature = "download")]
        {
            self.work.close();
            self.work.wait().await;
        }
        if let Some(made) = self.take() {
            // If there is no thread, or the runtime shuts down before this runs, the closure is dropped, which removes
            // the folder as well.
            let _ = threads::blocking(|| close(made)).await;
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

/// Removes the folder of a job that was dropped while it ran.
impl Drop for Folder {
    fn drop(&mut self) {
        let Some(made) = self.take() else { return };
        match Handle::try_current() {
            // Without a thread, this drops the closure, which removes the folder as well.
            Ok(runtime) => drop(threads::spawn_blocking(&runtime, || close(made))),
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
            folder = %path.display(),
            %error,
            "Failed to remove the job's folder."
        );
    }
}
