//! Uploads to a real S3 server, including all kinds of failures.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use podwork::files::{RemoteFile, Upload, UploadError, UploadUrl, Uploaded};
use podwork::testing::{TestJob, Tested};
use podwork::{Context, Result, handler};
use podwork_tests::client;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

use crate::storage::{BUCKET, Fault, ID, Kind, SECRET, Storage};

const PART: usize = 16 * 1024 * 1024;

/// The upload that a job makes.
#[derive(Deserialize)]
struct Request {
    name: String,
    size: usize,
    #[serde(default)]
    how: How,
    /// The number of bytes after which the reader fails. Default: it does not fail.
    fails_at: Option<usize>,
    lifetime: Option<u64>,
    content_type: Option<String>,
    patience_ms: Option<u64>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum How {
    #[default]
    Bytes,
    File,
    Reader,
}

/// Uploads the requested object and returns its URL, key and size. Reports the upload's progress as job progress.
#[handler]
async fn upload(request: Request, cx: Context) -> Result<Value> {
    let uploaded = begin(&request, &cx).await?;
    assert_eq!(serde_json::to_value(&uploaded)?, json!(uploaded.url()));
    assert!(!format!("{uploaded:?}").contains("Signature"));
    Ok(json!({ "url": uploaded, "key": uploaded.key(), "bytes": uploaded.bytes() }))
}

async fn begin(request: &Request, cx: &Context) -> Result<Uploaded, UploadError> {
    let mut upload = Upload::new(cx).progress(|so_far| cx.progress(so_far));
    if let Some(seconds) = request.lifetime {
        upload = upload.expires_in(Duration::from_secs(seconds));
    }
    if let Some(kind) = &request.content_type {
        upload = upload.content_type(kind);
    }
    if let Some(millis) = request.patience_ms {
        upload = upload.idle_timeout(Duration::from_millis(millis));
    }
    let bytes = noise(request.size);
    match request.how {
        How::Bytes => upload.bytes(&request.name, bytes).await,
        How::Reader => {
            let reader = Reader {
                bytes,
                at: 0,
                fails_at: request.fails_at.unwrap_or(usize::MAX),
            };
            upload.reader(&request.name, reader).await
        }
        How::File => {
            let path = cx.folder().unwrap().join(&request.name);
            std::fs::write(&path, bytes).unwrap();
            upload.file(&path).await
        }
    }
}

/// A reader that returns pieces of odd sizes, until it fails.
struct Reader {
    bytes: Vec<u8>,
    at: usize,
    fails_at: usize,
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at >= self.fails_at {
            return Poll::Ready(Err(io::Error::other("camera disconnected")));
        }
        let size = buf.remaining().min(99_991).min(self.bytes.len() - self.at);
        buf.put_slice(&self.bytes[self.at..self.at + size]);
        self.at += size;
        Poll::Ready(Ok(()))
    }
}

/// Returns pseudorandom bytes that depend only on their number.
fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

async fn run(storage: &Storage, input: Value) -> Tested {
    TestJob::new(input).env(storage.env()).run::<upload>().await
}

/// Returns the error message of a job, and asserts that the error contains no secret.
fn error(job: Tested) -> String {
    let chain = error_chain(&job);
    assert!(!chain.contains(SECRET) && !chain.contains(ID), "{chain}");
    job.result.unwrap_err().message().to_owned()
}

/// Returns the kind, message and causes of a job's error.
fn error_chain(job: &Tested) -> String {
    format!("{:?}", job.result.as_ref().unwrap_err())
}

fn text<'a>(output: &'a Value, key: &str) -> &'a str {
    output[key].as_str().unwrap()
}

async fn get(url: &str) -> (u16, String, Vec<u8>) {
    let answer = client().get(url).send().await.unwrap();
    let kind = answer.headers().get("content-type");
    let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let status = answer.status().as_u16();
    (status, kind, answer.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_url_serves_the_uploaded_object_to_anyone() {
    let storage = Storage::start().await;
    for (how, name, kind) in [
        ("bytes", "ü & 1+1=2 %41?#.png", "image/png"),
        ("file", "song.mp3", "audio/mpeg"),
        ("reader", "a/b/c.unknown", "application/octet-stream"),
    ] {
        let job = run(
            &storage,
            json!({ "name": name, "size": 70_000, "how": how }),
        )
        .await;
        let output = job.result.unwrap();
        let key = format!("test/{name}");
        assert_eq!(
            (text(&output, "key"), &output["bytes"]),
            (&*key, &json!(70_000))
        );
        assert_eq!(storage.object(&key), noise(70_000));
        let got = get(text(&output, "url")).await;
        assert_eq!((got.0, got.1.as_str()), (200, kind), "{name}");
        assert_eq!(got.2, noise(70_000));
    }
    let input = json!({ "name": "x.png", "size": 1, "content_type": "text/x-podwork" });
    let output = run(&storage, input).await.result.unwrap();
    assert_eq!(get(text(&output, "url")).await.1, "text/x-podwork");
    let input = json!({ "name": "x.png", "size": 1, "content_type": "text/\nx" });
    let error = error(run(&storage, input).await);
    assert!(
        error.contains(r"invalid content type `text/\nx`: "),
        "{error}"
    );
}

/// Downloads the file at a URL, and returns its SHA-256 digest.
#[handler]
async fn download(file: RemoteFile, cx: Context) -> Result<String> {
    let bytes = std::fs::read(file.download(&cx).await?)?;
    Ok(sum(&bytes))
}

fn sum(bytes: &[u8]) -> String {
    let sum = digest(&SHA256, bytes);
    sum.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_job_uploads_another_downloads() {
    const SIZE: usize = 3_000_000;
    // The client then requests the rest of the same version, which the server's ETag identifies.
    let storage = Storage::with(|seen| {
        let spoilt = seen.kind == Kind::Get && seen.before == 0;
        spoilt.then_some(Fault::Half(2_000_000))
    })
    .await;
    let output = run(&storage, json!({ "name": "weights", "size": SIZE }))
        .await
        .result
        .unwrap();
    let file = json!({ "url": output["url"], "sha256": sum(&noise(SIZE)) });
    let job = TestJob::new(file.clone()).env([("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "1")]);
    let job = job.run::<download>().await;
    assert_eq!(job.result.unwrap(), json!(sum(&noise(SIZE))));
    assert_eq!(storage.count(Kind::Get), 2);
    assert_eq!(storage.range(1), Some("bytes=2000000-".to_owned()));

    let refused = TestJob::new(file).run::<download>().await.result;
    let refused = refused.unwrap_err();
    assert!(refused.message().contains("127.0.0.1"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_every_size_completely_in_as_few_parts_as_possible() {
    let storage = Storage::start().await;
    let mut parts_before = 0;
    for (size, how, parts) in [
        (0, "bytes", 0),
        (0, "file", 0),
        (0, "reader", 0),
        (PART - 1, "reader", 0),
        (PART, "reader", 0),
        (PART, "bytes", 0),
        (PART + 1, "file", 2),
        (2 * PART, "reader", 2),
        (6 * PART + 5, "bytes", 7),
    ] {
        let name = format!("{how}-{size}");
        let job = run(&storage, json!({ "name": name, "size": size, "how": how })).await;
        let output = job.result.unwrap();
        assert_eq!(output["bytes"], json!(size));
        assert!(
            storage.object(&format!("test/{name}")) == noise(size),
            "{name}"
        );
        let total = storage.count(Kind::Part);
        assert_eq!(total - parts_before, parts, "{name}");
        parts_before = total;
        // The size of a reader's data is known only at its end.
        assert_eq!(
            job.progress.last(),
            Some(&json!({ "bytes": size, "of": size }))
        );
        assert_eq!(job.progress.len(), parts + 1, "{name}");
    }
    assert_eq!(storage.incomplete(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_valid_only_for_its_object_and_lifetime() {
    let storage = Storage::start().await;
    let input = json!({ "name": "a", "size": 9 });
    let output = run(&storage, input.clone()).await.result.unwrap();
    let url = text(&output, "url");
    assert!(url.contains("X-Amz-Expires=604800"), "{url}");
    assert_eq!(get(url).await.0, 200);
    let output = run(&storage, json!({ "name": "b", "size": 9 }))
        .await
        .result
        .unwrap();
    assert_eq!(get(text(&output, "url")).await.0, 200);
    assert_eq!(get(&url.replace("/test/a?", "/test/b?")).await.0, 403);
    assert_eq!(get(&url.replace("=604800", "=604801")).await.0, 403);
    assert_eq!(get(url.split('?').next().unwrap()).await.0, 403);

    let mut short = input.clone();
    short["lifetime"] = json!(1);
    let output = run(&storage, short).await.result.unwrap();
    let (url, began) = (text(&output, "url"), Instant::now());
    while get(url).await.0 == 200 {
        assert!(began.elapsed() < Duration::from_secs(10), "never expired");
    }
    assert_eq!(get(url).await.0, 403);

    for seconds in [0, 604_801] {
        let mut long = input.clone();
        long["lifetime"] = json!(seconds);
        let error = error(run(&storage, long).await);
        assert!(error.contains("from 1 second to 7 days"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_unique_and_stay_under_the_jobs_prefix() {
    #[handler]
    async fn many(names: Vec<String>, cx: Context) -> Result<Vec<String>> {
        let upload = Upload::new(&cx);
        let mut keys = Vec::new();
        for name in &names {
            keys.push(upload.bytes(name, name.clone()).await?.key().to_owned());
        }
        Ok(keys)
    }

    #[handler]
    async fn one(path: String, cx: Context) -> Result<Uploaded> {
        Ok(Upload::new(&cx).file(path).await?)
    }

    let storage = Storage::start().await;
    let job = TestJob::new(json!(["a.png", "a.png", "f/a.png", "a.png"])).env(storage.env());
    let keys = job.run::<many>().await.result.unwrap();
    assert_eq!(
        keys,
        json!(["test/a.png", "test/a-2.png", "test/f/a.png", "test/a-3.png"])
    );
    let expected = ["test/a-2.png", "test/a-3.png", "test/a.png", "test/f/a.png"];
    assert!(
        storage.objects().iter().eq(expected),
        "{:?}",
        storage.objects()
    );

    let error = error(run(&storage, json!({ "name": "../b", "size": 1 })).await);
    assert_eq!(
        error,
        "invalid upload name `../b`: it contains the part `.` or `..`"
    );
    let missing = TestJob::new(json!("/no/such/file.png")).env(storage.env());
    let error = error_chain(&missing.run::<one>().await);
    assert!(
        error.contains(
            "cannot upload /no/such/file.png: reading it failed\ncaused by: No such file"
        ),
        "{error}"
    );
    let folder = TestJob::new(json!("/tmp")).env(storage.env());
    let error = error_chain(&folder.run::<one>().await);
    assert!(
        error.contains("caused by: not a regular file, but a folder"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_transient_failures() {
    // Each kind of request fails twice with each status.
    for status in [500, 503] {
        let storage = Storage::with(move |seen| {
            let spoilt = seen.kind != Kind::Get && seen.before < 2;
            spoilt.then_some(Fault::Answer(status, "SlowDown", None))
        })
        .await;
        let small = run(&storage, json!({ "name": "small", "size": 5 })).await;
        small.result.unwrap();
        let large = json!({ "name": "large", "size": 2 * PART + 7, "how": "reader" });
        run(&storage, large).await.result.unwrap();
        assert!(storage.object("test/large") == noise(2 * PART + 7));
        assert_eq!(storage.count(Kind::Put), 3);
        assert_eq!(storage.count(Kind::Create), 3);
        assert_eq!(storage.count(Kind::Complete), 3);
        assert_eq!(storage.incomplete(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnects_after_a_connection_breaks_during_a_part() {
    let storage = Storage::with(|seen| {
        let spoilt = matches!(seen.kind, Kind::Part | Kind::Put) && seen.before % 3 != 2;
        spoilt.then_some(Fault::Cut)
    })
    .await;
    let large = json!({ "name": "large", "size": PART + 7, "how": "file" });
    run(&storage, large).await.result.unwrap();
    assert!(storage.object("test/large") == noise(PART + 7));
    run(&storage, json!({ "name": "small", "size": 99_999 }))
        .await
        .result
        .unwrap();
    assert!(storage.object("test/small") == noise(99_999));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_survives_a_lost_answer() {
    let storage = Storage::with(|seen| match (seen.kind, seen.before) {
        (Kind::Put | Kind::Part | Kind::Complete, 0) => Some(Fault::Lost),
        // The answer of most services once an upload is complete.
        (Kind::Complete, _) => Some(Fault::Answer(404, "NoSuchUpload", None)),
        _ => None,
    })
    .await;
    let small = json!({ "name": "small", "size": 9 });
    run(&storage, small).await.result.unwrap();
    let large = json!({ "name": "large", "size": PART + 9 });
    run(&storage, large).await.result.unwrap();
    assert!(storage.object("test/large") == noise(PART + 9));
    assert!(storage.objects().iter().eq(["test/large", "test/small"]));

    // Without the object, the same answer is an error.
    let storage = Storage::with(|seen| {
        (seen.kind == Kind::Complete).then_some(Fault::Answer(404, "NoSuchUpload", None))
    })
    .await;
    let lost = error(run(&storage, json!({ "name": "large", "size": PART + 9 })).await);
    assert!(
        lost.contains("the service removed the upload before it was complete"),
        "{lost}"
    );
    assert_eq!(storage.incomplete(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_a_slow_service_but_not_for_a_silent_one() {
    let storage = Storage::with(|_| Some(Fault::Slow)).await;
    // The transfer takes 4 s, but the system's buffers hide a part of that.
    let slow = json!({ "name": "slow", "size": PART, "patience_ms": 2500 });
    let started = Instant::now();
    run(&storage, slow).await.result.unwrap();
    assert!(started.elapsed() > Duration::from_secs(3));
    assert_eq!(storage.count(Kind::Put), 1);

    let storage = Storage::with(|_| Some(Fault::Silence)).await;
    let silent = json!({ "name": "silent", "size": 5, "patience_ms": 100 });
    let error = error(run(&storage, silent).await);
    let host = storage.url().replace("http://", "");
    assert_eq!(
        error,
        format!(
            "cannot upload silent: the request to {host} failed: no data was transferred for 100ms; check BUCKET_ENDPOINT_URL"
        )
    );
    assert_eq!(storage.count(Kind::Put), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_final_and_its_error_suggests_a_fix() {
    for (status, code, header, says) in [
        (
            404,
            "NoSuchBucket",
            None,
            "the bucket does not exist; create it, or check BUCKET_NAME",
        ),
        (
            403,
            "AccessDenied",
            None,
            "access denied; the access key needs the permissions s3:PutObject",
        ),
        (
            403,
            "InvalidAccessKeyId",
            None,
            "check BUCKET_ACCESS_KEY_ID",
        ),
        (
            403,
            "SignatureDoesNotMatch",
            None,
            "check BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY",
        ),
        (
            403,
            "RequestTimeTooSkewed",
            None,
            "the clock of this machine is wrong",
        ),
        (
            301,
            "PermanentRedirect",
            Some(("x-amz-bucket-region", "eu-north-1")),
            "the bucket is in the region eu-north-1, not in us-east-1; check BUCKET_ENDPOINT_URL, or the worker's AWS_REGION",
        ),
        (
            400,
            "EntityTooLarge",
            None,
            "the service refused the request (status 400, EntityTooLarge)",
        ),
        (
            404,
            "<b>not a word</b>",
            None,
            "not found; check BUCKET_ENDPOINT_URL (status 404)",
        ),
    ] {
        let storage = Storage::with(move |_| Some(Fault::Answer(status, code, header))).await;
        let job = run(&storage, json!({ "name": "cat.png", "size": 5 })).await;
        let error = error(job);
        let host = storage.url().replace("http://", "");
        let begins = format!("cannot upload cat.png to the bucket `{BUCKET}` at {host}: ");
        assert!(
            error.starts_with(&begins) && error.contains(says),
            "{error}"
        );
        assert_eq!(storage.count(Kind::Put), 1, "{code}");
    }
    // A refused part aborts the whole upload.
    let storage = Storage::with(|seen| {
        (seen.kind == Kind::Part).then_some(Fault::Answer(403, "AccessDenied", None))
    })
    .await;
    let large = json!({ "name": "large", "size": 3 * PART });
    assert!(error(run(&storage, large).await).contains("access denied"));
    assert_eq!(storage.count(Kind::Abort), 1);
    assert_eq!(
        (storage.incomplete(), storage.objects()),
        (vec![], [].into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_wrong_access_keys() {
    let storage = Storage::start().await;
    let input = json!({ "name": "a", "size": 5 });
    let with = |name: &'static str, value: &str| {
        let mut env = storage.env().to_vec();
        env.retain(|(known, _)| *known != name);
        env.push((name, value.to_owned()));
        TestJob::new(input.clone()).env(env)
    };
    let secret = with("BUCKET_SECRET_ACCESS_KEY", "another")
        .run::<upload>()
        .await;
    assert!(error(secret).contains("(status 403, SignatureDoesNotMatch)"));
    let id = with("BUCKET_ACCESS_KEY_ID", "NOBODY").run::<upload>().await;
    let id = error(id);
    assert!(
        id.contains("(status 403, ") && !id.contains("NOBODY"),
        "{id}"
    );
    assert_eq!(storage.objects(), [].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn distinguishes_an_unreachable_host_from_a_host_without_s3() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let other = podwork_tests::Hostile::start(|mut conn| async move {
        conn.answer("200 OK", &[], "<html>Welcome!").await;
    })
    .await;
    let storage = Storage::start().await;
    let at = |url: String| {
        let mut env = storage.env();
        env[0].1 = url;
        TestJob::new(json!({ "name": "a", "size": 5 }))
            .env(env)
            .run::<upload>()
    };
    let error = error(at(format!("http://{closed}")).await);
    assert!(
        error.starts_with(&format!(
            "cannot upload a: the request to {closed} failed: "
        )),
        "{error}"
    );
    let error = self::error(at(other.url("")).await);
    assert!(
        error.contains("does not respond like an S3 service; check BUCKET_ENDPOINT_URL"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_fails_leaves_nothing_behind() {
    let storage = Storage::start().await;
    for fails_at in [0, PART, 3 * PART + 1] {
        let input =
            json!({ "name": "film", "size": 5 * PART, "how": "reader", "fails_at": fails_at });
        let job = run(&storage, input).await;
        assert!(
            error_chain(&job)
                .contains("cannot upload film: reading it failed\ncaused by: camera disconnected"),
            "{job:?}"
        );
        assert_eq!(
            (storage.incomplete(), storage.objects()),
            (vec![], [].into())
        );
    }
    assert_eq!(storage.count(Kind::Create), storage.count(Kind::Abort));
    assert_eq!(storage.count(Kind::Complete), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_times_out_in_an_upload_leaves_nothing_behind() {
    let storage = Storage::with(|seen| {
        (seen.kind == Kind::Part && seen.before > 0).then_some(Fault::Silence)
    })
    .await;
    let job = TestJob::new(json!({ "name": "film", "size": 5 * PART })).env(storage.env());
    let running = job.job_timeout(Duration::from_secs(6)).run::<upload>();
    let error = running.await.result.unwrap_err();
    assert_eq!(error.kind(), "timeout");
    // 4 parts in flight and 1 finished: parts that were not in flight are never sent.
    assert!(storage.count(Kind::Part) <= 5);
    assert_eq!(storage.count(Kind::Abort), 1);
    assert_eq!(
        (storage.incomplete(), storage.objects()),
        (vec![], [].into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_no_further_ahead_than_it_can_send() {
    static READ: AtomicUsize = AtomicUsize::new(0);

    /// A reader without an end.
    struct Endless;

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let size = buf.remaining();
            buf.initialize_unfilled();
            buf.advance(size);
            READ.fetch_add(size, Ordering::Relaxed);
            Poll::Ready(Ok(()))
        }
    }

    #[handler]
    async fn stream(cx: Context) -> Result<Uploaded> {
        Ok(Upload::new(&cx).reader("endless", Endless).await?)
    }

    let storage = Storage::with(|seen| {
        (seen.kind == Kind::Part && seen.before >= 4).then_some(Fault::Silence)
    })
    .await;
    let job = TestJob::new(json!(null)).env(storage.env());
    let job = job
        .job_timeout(Duration::from_secs(8))
        .run::<stream>()
        .await;
    assert_eq!(job.result.unwrap_err().kind(), "timeout");
    // 4 parts are finished, and 4 are in flight.
    assert!(storage.count(Kind::Part) <= 8);
    assert!(READ.load(Ordering::Relaxed) <= 9 * PART);
    assert_eq!(storage.incomplete(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn aborts_an_upload_that_is_dropped_while_it_begins() {
    static BEGUN: Notify = Notify::const_new();
    static GIVEN_UP: Notify = Notify::const_new();

    #[handler]
    async fn impatient(cx: Context) -> Result<()> {
        let upload = Upload::new(&cx);
        tokio::select! {
            _ = upload.bytes("film", noise(2 * PART)) => return Err("the upload ended".into()),
            () = BEGUN.notified() => {}
        }
        GIVEN_UP.notify_one();
        Ok(())
    }

    let until = Arc::new(Notify::new());
    let storage = Storage::with({
        let until = Arc::clone(&until);
        move |seen| (seen.kind == Kind::Create).then(|| Fault::Wait(Arc::clone(&until)))
    })
    .await;

    let job = TestJob::new(json!(null)).env(storage.env());
    let serve = async {
        storage.saw(Kind::Create, 1).await;
        BEGUN.notify_one();
        GIVEN_UP.notified().await;
        until.notify_one();
    };
    let (job, ()) = tokio::join!(job.run::<impatient>(), serve);
    job.result.unwrap();
    assert_eq!(storage.count(Kind::Abort), 1);
    assert_eq!(storage.incomplete(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_can_name_its_own_bucket() {
    let (ours, theirs) = (Storage::start().await, Storage::start().await);
    let config = json!({
        "accessId": ID, "accessSecret": SECRET, "bucketName": BUCKET, "endpointUrl": theirs.url(),
    });
    let job = |config: &Value, private: bool| {
        let mut env = ours.env().to_vec();
        env.push(("AWS_REGION", "mars-1".to_owned()));
        if private {
            env.push(("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true".to_owned()));
        }
        let job = TestJob::new(json!({ "name": "a", "size": 5 })).env(env);
        job.extra("s3Config", config.clone()).run::<upload>()
    };
    let uploaded = job(&config, true).await.result.unwrap();
    // The host name does not contain the region, so the upload assumes that of the worker.
    assert!(text(&uploaded, "url").contains("%2Fmars-1%2F"));
    assert!(theirs.objects().iter().eq(["test/a"]));
    assert_eq!(ours.objects(), [].into());
    // A null s3Config selects the worker's bucket.
    job(&json!(null), false).await.result.unwrap();
    assert!(ours.objects().iter().eq(["test/a"]));

    // The worker refuses a request's bucket at an address that only the worker can reach.
    let error = error(job(&config, false).await);
    let host = theirs.url().replace("http://", "");
    assert!(
        error.starts_with(&format!(
            "cannot upload a to {host}: the host's address is not public; "
        )),
        "{error}"
    );
    for url in [
        "http://169.254.169.254",
        "http://localhost:1",
        "https://[::1]",
    ] {
        let mut config = config.clone();
        config["endpointUrl"] = json!(url);
        let error = self::error(job(&config, false).await);
        assert!(
            error.contains("the host's address is not public"),
            "{url}: {error}"
        );
    }
    assert_eq!(theirs.count(Kind::Put), 1);

    for (member, value, says) in [
        (
            "accessId",
            json!(null),
            "cannot use the job's s3Config.accessId: it is missing",
        ),
        (
            "accessId",
            json!("A\nB"),
            "cannot use the job's s3Config.accessId: it contains characters",
        ),
        (
            "accessSecret",
            json!(12_345),
            "cannot use the job's s3Config.accessSecret: it is not a string",
        ),
        (
            "bucketName",
            json!(""),
            "cannot use the job's s3Config.bucketName: it is missing, and endpointUrl",
        ),
        (
            "endpointUrl",
            json!("h:9000"),
            "cannot use the job's s3Config.endpointUrl: the URL does not start with https://",
        ),
    ] {
        let mut config = config.clone();
        config[member] = value;
        let error = self::error(job(&config, true).await);
        assert!(error.starts_with(says), "{error}");
    }
    let mut wrong = config.clone();
    wrong["accessSecret"] = json!("another");
    let error = self::error(job(&wrong, true).await);
    assert!(
        error.contains("check s3Config.accessId and s3Config.accessSecret"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_can_be_behind_a_path() {
    // The server sees the first part of the path as its bucket, and checks the signature of the whole path.
    let storage = Storage::start().await;
    let mut env = storage.env();
    env[0].1 = format!("{}/{BUCKET}/v1/s3/", storage.url());
    "inner".clone_into(&mut env[3].1);
    for (name, size) in [("small & ü.txt", 9), ("large", 2 * PART + 7)] {
        let job = TestJob::new(json!({ "name": name, "size": size })).env(env.clone());
        let output = job.run::<upload>().await.result.unwrap();
        assert_eq!(text(&output, "key"), format!("test/{name}"));
        assert!(storage.object(&format!("v1/s3/inner/test/{name}")) == noise(size));
        let (status, _, body) = get(text(&output, "url")).await;
        assert!(status == 200 && body == noise(size), "{status}");
    }
    // A failed upload is aborted there, too.
    let job = TestJob::new(
        json!({ "name": "film", "size": 5 * PART, "how": "reader", "fails_at": 3 * PART + 1 }),
    );
    job.env(env).run::<upload>().await.result.unwrap_err();
    assert_eq!(storage.count(Kind::Abort), 1);
    assert_eq!(storage.incomplete(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_can_have_another_form() {
    #[handler]
    async fn in_form(form: Option<String>, cx: Context) -> Result<Uploaded> {
        let upload = Upload::new(&cx);
        let upload = match form.as_deref() {
            None => upload,
            Some("signed") => upload.url_form(UploadUrl::Signed),
            Some("object") => upload.url_form(UploadUrl::Object),
            Some(_) => upload.url_form(UploadUrl::S3),
        };
        Ok(upload.bytes("a b.png", "x").await?)
    }

    let storage = Storage::start().await;
    let object = format!("{}/{BUCKET}/test/a%20b.png", storage.url());
    let s3 = format!("s3://{BUCKET}/test/a b.png");
    for (variable, form, expected) in [
        ("", None, None),
        ("s3", None, Some(&s3)),
        ("object", None, Some(&object)),
        ("signed", None, None),
        ("object", Some("s3"), Some(&s3)),
        ("s3", Some("object"), Some(&object)),
        ("s3", Some("signed"), None),
    ] {
        let mut env = storage.env().to_vec();
        env.push(("PODWORK_UPLOAD_URL", variable.to_owned()));
        let job = TestJob::new(json!(form)).env(env).run::<in_form>().await;
        let url = job.result.unwrap();
        let url = url.as_str().unwrap();
        match expected {
            Some(expected) => assert_eq!(url, expected),
            None => assert_eq!(get(url).await.0, 200, "{url}"),
        }
    }
}

#[tokio::test]
async fn a_context_shows_no_keys() {
    #[handler]
    async fn show(cx: Context) -> String {
        format!("{cx:?} {:?}", Upload::new(&cx))
    }

    let storage = Storage::start().await;
    let job = TestJob::new(json!(null)).env(storage.env());
    let job = job.extra("s3Config", json!({ "accessSecret": SECRET }));
    let shown = job.run::<show>().await.result.unwrap();
    assert!(!shown.to_string().contains(SECRET), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_handler_uploads_until_its_job_is_stopped() {
    static STOPPED: AtomicBool = AtomicBool::new(false);

    #[handler]
    fn block(size: usize, cx: Context) -> Result<Uploaded> {
        let uploaded = Upload::new(&cx).bytes_blocking("a", noise(size));
        if matches!(uploaded, Err(UploadError::Stopped)) {
            STOPPED.store(true, Ordering::Relaxed);
        }
        Ok(uploaded?)
    }

    let storage = Storage::with(|seen| (seen.kind == Kind::Part).then_some(Fault::Silence)).await;
    let job = TestJob::new(json!(5))
        .env(storage.env())
        .run::<block>()
        .await;
    let url = job.result.unwrap();
    assert_eq!(get(url.as_str().unwrap()).await.2, noise(5));

    let job = TestJob::new(json!(2 * PART)).env(storage.env());
    let job = job.job_timeout(Duration::from_secs(3)).run::<block>().await;
    assert_eq!(job.result.unwrap_err().kind(), "timeout");
    assert!(STOPPED.load(Ordering::Relaxed));
    storage.saw(Kind::Abort, 1).await;
    assert_eq!(storage.incomplete(), [""; 0]);
}

/// Returns an output of `size` bytes of JSON.
#[handler]
async fn large(size: usize) -> String {
    "x".repeat(size - 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_a_result_that_is_too_large_if_enabled() {
    const LIMIT: usize = 10 * 1024 * 1024;

    let storage = Storage::start().await;
    let job = |size: usize| TestJob::new(json!(size)).env(storage.env());
    let fits = job(LIMIT).upload_large_results(true).run::<large>().await;
    assert_eq!(fits.result.unwrap().as_str().unwrap().len(), LIMIT - 2);
    assert_eq!(storage.objects(), [].into());

    let uploaded = job(LIMIT + 1)
        .upload_large_results(true)
        .run::<large>()
        .await;
    let output = uploaded.result.unwrap();
    assert_eq!(output["bytes"], json!(LIMIT + 1));
    let (status, kind, body) = get(text(&output, "output_url")).await;
    assert_eq!((status, kind.as_str()), (200, "application/json"));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body.as_str().unwrap().len(), LIMIT - 1);
    assert!(storage.objects().iter().eq(["test/output.json"]));

    let unwished = error(job(LIMIT + 1).run::<large>().await);
    assert!(
        unwished.contains("upload it and return its URL instead"),
        "{unwished}"
    );

    let none = TestJob::new(json!(LIMIT + 1)).upload_large_results(true);
    let none = none.run::<large>().await.result.unwrap_err();
    assert_eq!(none.kind(), "output_too_large");
    assert!(
        none.message().contains(
            "uploading it instead failed: no bucket is configured: set BUCKET_ENDPOINT_URL"
        ),
        "{none}"
    );

    let storage = Storage::with(|_| Some(Fault::Answer(403, "AccessDenied", None))).await;
    let refused = TestJob::new(json!(LIMIT + 1)).env(storage.env());
    let refused = error(refused.upload_large_results(true).run::<large>().await);
    assert!(
        refused.starts_with(
            "the output is too large: 10485761 bytes, limit 10485760 bytes; uploading it instead failed"
        ),
        "{refused}"
    );
    assert!(refused.contains("access denied"), "{refused}");
}

#[cfg(feature = "local")]
mod whole {
    use podwork::Worker;
    use podwork::testing::TestWorker;
    use podwork_tests::{Answer, Recorded, Scripted};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_job_that_is_cancelled_in_an_upload_leaves_nothing_behind() {
        let storage = Storage::with(|seen| {
            (seen.kind == Kind::Part && seen.before > 0).then_some(Fault::Silence)
        })
        .await;
        let worker = Worker::new::<upload>().env(storage.env());
        let worker = TestWorker::start(worker).await.unwrap();
        let request = json!({ "input": { "name": "film", "size": 5 * PART, "how": "reader" } });
        let id = worker
            .platform()
            .submit(serde_json::from_value(request).unwrap());
        let id = id.unwrap();
        storage.saw(Kind::Part, 5).await;
        worker.platform().cancel(&id).unwrap();
        storage.saw(Kind::Abort, 1).await;
        worker.stop().await.unwrap();
        assert_eq!(
            (storage.incomplete(), storage.objects()),
            (vec![], [].into())
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_result_that_is_too_large_goes_to_the_requests_bucket() {
        let storage = Storage::start().await;
        let worker = Worker::new::<large>()
            .upload_large_results(true)
            .env([("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")]);
        let worker = TestWorker::start(worker).await.unwrap();
        let request = json!({
            "input": 11_000_000,
            "s3Config": {
                "accessId": ID, "accessSecret": SECRET, "bucketName": BUCKET, "endpointUrl": storage.url(),
            },
        });
        let id = worker
            .platform()
            .submit(serde_json::from_value(request).unwrap());
        let id = id.unwrap();
        let status = worker.platform().ended(&id).await.unwrap();
        let output: Value = serde_json::from_str(status.output.unwrap().get()).unwrap();
        assert_eq!(output["bytes"], json!(11_000_000));
        assert_eq!(get(text(&output, "output_url")).await.2.len(), 11_000_000);
        assert!(storage.objects().iter().eq([&format!("{id}/output.json")]));
        worker.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_service_without_signed_urls_is_reported_at_the_start() {
        let program = env!("CARGO_BIN_EXE_podwork-test-worker");
        let log = |variable: &str| {
            let worker = podwork_tests::Binary::new(
                program,
                &["--test_input", r#"{"input":{"do":"echo","value":1}}"#],
            );
            worker.env([
                (
                    "BUCKET_ENDPOINT_URL",
                    "https://s3api-eu-ro-1.runpod.io".to_owned(),
                ),
                ("BUCKET_ACCESS_KEY_ID", ID.to_owned()),
                ("BUCKET_SECRET_ACCESS_KEY", SECRET.to_owned()),
                ("BUCKET_NAME", "volume".to_owned()),
                ("PODWORK_UPLOAD_URL", variable.to_owned()),
            ])
        };
        let warning = "The storage service does not support signed URLs; ";
        for (variable, says) in [
            (
                "",
                Some("uploads return s3:// URLs. Set PODWORK_UPLOAD_URL=s3 to accept this"),
            ),
            (
                "signed",
                Some("the URLs of uploads will not work. Set PODWORK_UPLOAD_URL=s3"),
            ),
            ("s3", None),
            ("object", None),
        ] {
            let output = log(variable).output().await;
            let log = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{log}");
            match says {
                Some(says) => assert!(log.contains(&format!("{warning}{says}")), "{log}"),
                None => assert!(!log.contains(warning), "{log}"),
            }
            assert!(!log.contains(SECRET), "{log}");
        }
    }

    #[tokio::test]
    async fn a_service_without_signed_urls_gets_the_object_and_the_client_an_s3_url() {
        // podwork knows such a service by its host name, so this one is reached as the proxy on the way there.
        let stored = |_: &Recorded, _| Answer::Raw(200, vec![("ETag", "\"1\"")], Vec::new());
        let service = Scripted::start(stored).await;
        let worker = podwork_tests::Binary::new(
            env!("CARGO_BIN_EXE_podwork-test-worker"),
            &[
                "upload",
                "--test_input",
                r#"{"id":"j","input":{"name":"a b.png","bytes":9}}"#,
            ],
        );
        let worker = worker.env([
            (
                "BUCKET_ENDPOINT_URL",
                "http://s3api-eu-ro-1.runpod.io".to_owned(),
            ),
            ("BUCKET_ACCESS_KEY_ID", ID.to_owned()),
            ("BUCKET_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("BUCKET_NAME", "volume".to_owned()),
            ("http_proxy", service.url()),
            ("no_proxy", String::new()),
        ]);
        let output = worker.output().await;
        let log = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{log}");
        assert!(
            log.contains("output    | \"s3://volume/j/a b.png\""),
            "{log}"
        );
        assert!(log.contains("uploads return s3:// URLs"), "{log}");
        let [stored] = &service.of("")[..] else {
            panic!("{:#?}", service.of(""));
        };
        assert_eq!(
            (stored.method.as_str(), stored.path.as_str()),
            ("PUT", "/volume/j/a%20b.png")
        );
        assert_eq!(stored.headers["host"], "s3api-eu-ro-1.runpod.io");
        assert_eq!(stored.body.as_bytes(), (0..9).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn a_worker_with_a_partially_set_bucket_does_not_start() {
        let half = [("BUCKET_ENDPOINT_URL", "https://s3.eu-west-1.amazonaws.com")];
        let worker = TestWorker::start(Worker::new::<large>().env(half))
            .await
            .unwrap();
        let error = worker.stop().await.unwrap_err().to_string();
        assert!(
            error.starts_with("BUCKET_ACCESS_KEY_ID is not set"),
            "{error}"
        );
    }
}
