//! Uploads without a bucket. This test needs a separate program, because it changes the working directory.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use podwork::files::{Upload, Uploaded};
use podwork::testing::TestJob;
use podwork::{Context, Result, handler};
use serde_json::json;

#[handler]
async fn draw(text: String, cx: Context) -> Result<[Uploaded; 2]> {
    let upload = Upload::new(&cx);
    let first = upload.bytes("a b/cat.txt", text.clone()).await?;
    Ok([first, upload.bytes("a b/cat.txt", text).await?])
}

#[handler]
async fn fail(cx: Context) -> Result<Uploaded> {
    Ok(Upload::new(&cx).file_as("cat.txt", "/no/such/file").await?)
}

/// Uploads each name as the content of a file with that name, and then returns the contents of all files.
#[handler]
async fn save_all(names: Vec<String>, cx: Context) -> Result<Vec<String>> {
    let upload = Upload::new(&cx);
    let mut found = Vec::new();
    for name in &names {
        upload.bytes(name, name.clone()).await?;
    }
    for name in &names {
        found.push(fs::read_to_string(
            Path::new("simulated_uploaded/test").join(name),
        )?);
    }
    Ok(found)
}

#[handler]
async fn never_ends(cx: Context) -> Result<Uploaded> {
    let (_writer, reader) = tokio::io::duplex(64);
    Ok(Upload::new(&cx).reader("never", reader).await?)
}

#[tokio::test]
async fn without_a_bucket_uploads_are_files_in_a_folder() {
    let home = tempfile::tempdir().unwrap();
    std::env::set_current_dir(home.path()).unwrap();
    let job = TestJob::new(json!("meow")).run::<draw>().await;
    let folder = fs::canonicalize("simulated_uploaded/test/a b").unwrap();
    let url = |name| format!("file://{}/{name}", folder.display()).replace(' ', "%20");
    assert_eq!(
        job.result.unwrap(),
        json!([url("cat.txt"), url("cat-2.txt")])
    );
    assert_eq!(
        fs::read_to_string(folder.join("cat-2.txt")).unwrap(),
        "meow"
    );
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);

    // Similar names do not collide, and an abandoned upload leaves no file.
    let names = ["x.partial", "x", ".x"];
    let job = TestJob::new(json!(names)).run::<save_all>().await;
    assert_eq!(job.result.unwrap(), json!(names));
    let given_up = TestJob::new(json!(null)).job_timeout(Duration::from_millis(50));
    let failure = given_up.run::<never_ends>().await.result.unwrap_err();
    assert_eq!(failure.kind(), "timeout");
    let saved = fs::read_dir(folder.join("..")).unwrap();
    let saved: BTreeSet<_> = saved.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        saved,
        BTreeSet::from(["a b", "x.partial", "x", ".x"].map(Into::into))
    );

    let error = TestJob::new(json!(null))
        .run::<fail>()
        .await
        .result
        .unwrap_err();
    let chain = format!("{error:?}");
    assert!(
        chain.contains("cannot upload /no/such/file: reading it failed\ncaused by: No such file"),
        "{chain}"
    );
    assert!(!folder.join("../cat.txt").exists());
}
