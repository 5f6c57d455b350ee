//! The running program, to start it again.

use std::io;
use std::path::PathBuf;

/// Returns the path of this program. On Linux, the path also works if the file was replaced or removed.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt as _;

        let link = PathBuf::from("/proc/self/exe");
        let identity =
            |path: &PathBuf| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
        // The path is preferred, because it gives the process its usual name in lists of processes.
        if identity(&path).ok() != Some(identity(&link)?) {
            return Ok(link);
        }
    }
    Ok(path)
}
