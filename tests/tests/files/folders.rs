//! The job folder: each job has its own, and the worker removes it however the job ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use podwork::testing::{TestJob, TestWorker};
use podwork::{Batch, Context, Result, Stream, Worker, handler, try_stream};
use podwork_platform::{JobEvent, Platform};
use podwork_tests::start;
use serde_json::{Value, json};
use tokio::runtime::Handle;

/// Fills the folder, reports its path as progress, and then ends as the input says.
async fn work(what: &str, cx: &Context) -> Result<String> {
    let folder = fill(cx)?;
    cx.progress(&folder);
    match what {
        "return" => Ok(folder),
        "fail" => Err("requested failure".into()),
        "panic" => panic!("requested panic"),
        _ => std::future::pending().await,
    }
}

fn fill(cx: &Context) -> Result<String> {
    let folder = cx.folder()?;
    assert_eq!(cx.clone().folder()?, folder, "each job has one folder");
    assert_eq!(std::fs::read_dir(&folder)?.count(), 0);
    std::fs::create_dir_all(folder.join("a/b"))?;
    std::fs::write(folder.join("a/b/c"), "c")?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&folder)?.permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "only the owner has access");
        std::os::unix::fs::symlink("/etc", folder.join("link"))?;
    }
    Ok(folder.display().to_string())
}

#[handler]
async fn once(what: String, cx: Context) -> Result<String> {
    work(&what, &cx).await
}

#[handler]
fn chunks(what: String, cx: Context) -> impl Stream<Item = Result<String>> {
    try_stream! {
        yield work(&what, &cx).await?;
    }
}

#[handler]
fn blocking(what: String, cx: Context) -> Result<String> {
    let folder = fill(&cx)?;
    cx.progress(&folder);
    match what.as_str() {
        "return" => Ok(folder),
        "fail" => Err("requested failure".into()),
        "panic" => panic!("requested panic"),
        _ => {
            Handle::current().block_on(cx.cancelled());
            // The folder exists until the handler itself returns, not only until its job ends.
            std::fs::write(Path::new(&folder).join("last"), "x")?;
            Ok(folder)
        }
    }
}

fn gone(folder: &Value) -> bool {
    let folder = Path::new(folder.as_str().unwrap());
    folder.starts_with(std::env::temp_dir()) && !folder.exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn removes_the_folder_however_the_job_ends() {
    for what in ["return", "fail", "panic", "wait"] {
        let job = || TestJob::new(json!(what)).job_timeout(Duration::from_millis(500));
        for tested in [
            job().run::<once>().await,
            job().run::<chunks>().await,
            job().run::<blocking>().await,
        ] {
            assert_eq!(tested.result.is_ok(), what == "return", "{what}");
            assert!(gone(&tested.progress[0]), "{what}: {:?}", tested.progress);
        }
    }
}

/// Waits for the first progress of a running job, and returns it: the path of its folder.
async fn folder_of(platform: &Platform, id: &str) -> Value {
    let mut events = std::pin::pin!(platform.follow(id));
    while let Some(event) = events.next().await {
        if let JobEvent::Progress(progress) = event {
            return serde_json::from_str(progress.get()).unwrap();
        }
    }
    panic!("the job ended without progress");
}

#[tokio::test(flavor = "multi_thread")]
async fn removes_the_folder_when_the_job_is_cancelled_or_the_worker_ends() {
    let request = || serde_json::from_value(json!({ "input": "wait" })).unwrap();
    let worker = Worker::new::<once>().shutdown_grace(Duration::from_millis(1));
    let worker = TestWorker::start(worker).await.unwrap();
    let platform = worker.platform();

    let id = platform.submit(request()).unwrap();
    let cancelled = folder_of(platform, &id).await;
    assert!(!gone(&cancelled));
    platform.cancel(&id).unwrap();
    // The worker frees the slot only after it removes the folder, so the next job starts afterwards.
    let id = platform.submit(request()).unwrap();
    let ended = folder_of(platform, &id).await;
    assert!(gone(&cancelled), "{cancelled}");

    assert!(!gone(&ended));
    worker.stop().await.unwrap_err();
    assert!(gone(&ended), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_ended_gets_no_folder() {
    type Keep = std::sync::Mutex<Option<Context>>;

    #[handler]
    async fn keep(cx: Context, kept: &std::sync::Arc<Keep>) -> Result<PathBuf> {
        *kept.lock().unwrap() = Some(cx.clone());
        Ok(cx.folder()?)
    }

    let kept = std::sync::Arc::<Keep>::default();
    let job = TestJob::new(json!(null)).state(std::sync::Arc::clone(&kept));
    let folder = job.run::<keep>().await.result.unwrap();
    assert!(gone(&folder));
    let cx = kept.lock().unwrap().take().unwrap();
    assert!(
        cx.folder()
            .unwrap_err()
            .to_string()
            .contains("the job has ended")
    );
}

/// Keeps writing to the folder of every job for a while after one of the jobs is cancelled.
#[handler(max_batch = 2, max_wait = "3600s")]
async fn together(inputs: Batch<String>) -> Result<Vec<Vec<PathBuf>>> {
    let contexts = inputs.contexts().iter();
    let folders = contexts
        .map(Context::folder)
        .collect::<Result<Vec<_>, _>>()?;
    for cx in inputs.contexts() {
        cx.progress("begun");
    }
    let stopped = inputs.iter().position(|name| name == "stopped");
    inputs.contexts()[stopped.unwrap()].cancelled().await;
    for _ in 0..1000 {
        for folder in &folders {
            std::fs::write(folder.join("late"), "x")?;
        }
        tokio::task::yield_now().await;
    }
    Ok(vec![folders.clone(); inputs.len()])
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_folder_of_a_cancelled_job_until_its_batch_ends() {
    let platform = Platform::builder().start().await.unwrap();
    let worker = start(Worker::new::<together>(), platform.worker_env("w"));
    let submit = |name: &str| {
        let request = serde_json::from_value(json!({ "input": name })).unwrap();
        platform.submit(request).unwrap()
    };
    let (stopped, other) = (submit("stopped"), submit("other"));
    let mut events = std::pin::pin!(platform.follow(&stopped));
    while let Some(event) = events.next().await {
        if let JobEvent::Progress(_) = event {
            platform.cancel(&stopped).unwrap();
        }
    }
    let mut events = std::pin::pin!(platform.follow(&other));
    let mut last = None;
    while let Some(event) = events.next().await {
        if let JobEvent::Finished(status) = event {
            last = Some(status);
        }
    }
    let last = last.unwrap();
    assert_eq!(last.status.as_str(), "COMPLETED", "{:?}", last.error);
    let folders: Vec<PathBuf> = serde_json::from_str(last.output.unwrap().get()).unwrap();
    worker.stop().await.unwrap();
    assert_eq!(folders.len(), 2);
    assert!(folders.iter().all(|folder| !folder.exists()));
}
