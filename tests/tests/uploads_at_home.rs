//! Where uploads go without a bucket. Alone in its process, whose folder it sets.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::fs;

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

    let error = TestJob::new(json!(null))
        .run::<fail>()
        .await
        .result
        .unwrap_err();
    assert!(
        error
            .message()
            .starts_with("/no/such/file could not be uploaded")
    );
    assert!(!folder.join("../cat.txt").exists());
}
