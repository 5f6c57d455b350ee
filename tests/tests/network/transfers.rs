//! Handlers that download and upload, and the processes that run them: a process reads its trusted certificates and its
//! proxies from the environment only once.

use std::ffi::OsStr;
use std::process::Stdio;

use podwork::files::{RemoteFile, Upload};
use podwork::{Context, Result, handler};

#[handler]
pub(super) async fn fetch(file: RemoteFile, cx: Context) -> Result<String> {
    let path = file.download(&cx).await?;
    Ok(std::fs::read_to_string(path)?)
}

#[handler]
pub(super) async fn save(text: String, cx: Context) -> Result<u64> {
    Ok(Upload::new(&cx).bytes("x", text).await?.bytes())
}

/// Runs an ignored test of this program in a process with these variables, and returns its output.
pub(super) async fn in_a_process<K, V>(test: &str, env: impl IntoIterator<Item = (K, V)>) -> String
where
    K: AsRef<OsStr>,
    V: AsRef<OsStr>,
{
    let program = std::env::current_exe().unwrap();
    let output = tokio::process::Command::new(program)
        .args(["--ignored", "--exact", test, "--nocapture"])
        .envs(env)
        .env_remove("SSL_CERT_DIR")
        .stdin(Stdio::null())
        .output();
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
