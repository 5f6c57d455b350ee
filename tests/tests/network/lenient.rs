//! Responses with malformed headers, which curl accepts: they cost neither a file nor a job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use podwork::testing::TestJob;
use podwork::{Worker, handler};
use podwork_tests::{Conn, Hostile, start, within_a_minute};
use serde_json::json;
use tokio::sync::Notify;

use crate::transfers::{fetch, save};

/// Header lines with a space before the colon, a name that is not valid, a continuation line, and no name at all.
const ODD: [&str; 4] = [
    "etag : \"1\"\r\n",
    "bad name: x\r\n",
    "x-long: a\r\n b\r\n",
    ": x\r\n",
];

/// Answers the request, and has the client open a connection for the next one, since `conn` reads only one.
async fn answer(conn: &mut Conn, odd: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\netag: \"1\"\r\n{odd}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    conn.send(head).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_and_uploads_tolerate_malformed_headers() {
    for odd in ODD {
        let server = Hostile::start(move |mut conn: Conn| async move {
            answer(&mut conn, odd, "hello").await;
            conn.gone().await;
        })
        .await;
        let job = TestJob::new(json!(server.url("x")))
            .env([("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")]);
        assert_eq!(
            job.run::<fetch>().await.result.unwrap(),
            json!("hello"),
            "{odd}"
        );
        let job = TestJob::new(json!("hello")).env([
            ("BUCKET_ENDPOINT_URL", server.url("bucket")),
            ("BUCKET_ACCESS_KEY_ID", "id".to_owned()),
            ("BUCKET_SECRET_ACCESS_KEY", "secret".to_owned()),
        ]);
        assert_eq!(job.run::<save>().await.result.unwrap(), json!(5), "{odd}");
        assert_eq!(server.requests().len(), 2, "{odd}");
    }
}

#[handler]
async fn echo(text: String) -> String {
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_the_platform_tolerate_malformed_headers() {
    for odd in ODD {
        let done = Arc::new(Notify::new());
        let (posted, taken) = (Arc::clone(&done), Arc::new(AtomicBool::new(false)));
        let platform = Hostile::start(move |mut conn: Conn| {
            let (posted, taken) = (Arc::clone(&posted), Arc::clone(&taken));
            async move {
                match conn.path().split('/').next() {
                    Some("job-take") if !taken.swap(true, Ordering::SeqCst) => {
                        answer(&mut conn, odd, r#"{"id":"j","input":"hello"}"#).await;
                    }
                    Some("job-done") => {
                        answer(&mut conn, odd, "").await;
                        posted.notify_one();
                    }
                    _ => {}
                }
                conn.gone().await;
            }
        })
        .await;
        let env = vec![
            ("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true".to_owned()),
            ("RUNPOD_SKIP_GPU_CHECK", "true".to_owned()),
            ("RUNPOD_WEBHOOK_GET_JOB", platform.url("job-take/$ID")),
            (
                "RUNPOD_WEBHOOK_POST_OUTPUT",
                platform.url("job-done/$RUNPOD_POD_ID/$ID"),
            ),
        ];
        let worker = start(Worker::new::<echo>(), env);
        within_a_minute(done.notified()).await;
        worker.stop().await.unwrap();
    }
}
