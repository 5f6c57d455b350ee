//! Files in inputs: their forms, their headers, and what errors show of them.

use podwork::files::{Downloads, InputFile, RemoteFile};
use podwork::testing::{TestJob, Tested};
use podwork::{Context, Result, handler};
use podwork_tests::{Conn, Hostile};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Remote {
    image: RemoteFile,
}

#[handler]
async fn remote(input: Remote, cx: Context) -> Result<String> {
    assert!(!format!("{:?}", input.image).contains("secret"));
    Ok(std::fs::read_to_string(input.image.download(&cx).await?)?)
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Images {
    images: Vec<InputFile>,
    /// The number of steps.
    steps: Option<u32>,
}

#[cfg_attr(feature = "schema", handler(schema))]
#[cfg_attr(not(feature = "schema"), handler)]
async fn images(input: Images, cx: Context) -> Result<Vec<String>> {
    assert!(input.steps.is_none_or(|steps| steps > 0));
    let files: Vec<RemoteFile> = input.images.into_iter().map(Into::into).collect();
    let paths = Downloads::new(&cx).fetch_all(&files).await?;
    let texts = paths.iter().map(|path| Ok(std::fs::read_to_string(path)?));
    texts.collect()
}

const OPEN: [(&str, &str); 1] = [("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")];

async fn download(image: Value) -> Tested {
    let job = TestJob::new(json!({ "image": image })).env(OPEN);
    job.run::<remote>().await
}

/// Returns the kind, message and causes of a job's error, which must not contain `secret` in any form.
fn error(job: Tested) -> String {
    let error = format!("{:?}", job.result.unwrap_err());
    assert!(!error.contains("secret"), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_file_is_a_url_or_base64() {
    let server = Hostile::start(|mut conn: Conn| async move {
        conn.answer("200 OK", &[], "by url").await;
    })
    .await;
    let input = json!({ "images": [
        server.url("a"),
        { "url": server.url("b"), "name": "b.png" },
        "data:text/plain;base64,YnkgZGF0YSB1cmw=",
        "YnkgYmFzZTY0",
        { "url": "YnkgYmFzZTY0", "name": "c.png" },
    ]});
    let job = TestJob::new(input).env(OPEN).run::<images>().await;
    assert_eq!(
        job.result.unwrap(),
        json!(["by url", "by url", "by data url", "by base64", "by base64"])
    );
    for (image, why) in [
        ("cat.png", "base64 has no such character (position 4)"),
        (
            "s3://bucket/cat.png",
            "the scheme `s3` is not http, https or data",
        ),
        (
            "data:image/png;base64,A",
            "cannot download data:image/png;base64,…: base64 not valid",
        ),
    ] {
        let input = json!({ "images": ["AAAA", image] });
        let error = error(TestJob::new(input).run::<images>().await);
        assert!(
            error.starts_with("invalid_input: invalid input at `images[1]`: "),
            "{error}"
        );
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn errors_do_not_repeat_the_content_of_a_file() {
    let png = format!("iVBORw0KGgo{}", "QUJD".repeat(100_000));
    let jpeg = format!("/9j/{}", "QUJD".repeat(100_000));
    let prose = "a cat on a mat ".repeat(1000);
    for (image, why) in [
        (
            &*png,
            "a text of 400011 characters: it is not a URL; if it is base64, write `data:image/png;base64,` before it",
        ),
        (&*jpeg, "write `data:image/jpeg;base64,` before it"),
        ("iVBORw0KGgo=", "write `data:image/png;base64,` before it"),
        (
            &png.repeat(2)[11..],
            "write `data:image/png;base64,` before it",
        ),
        (
            &format!("image/png;base64,{png}"),
            "a data URL begins with `data:`",
        ),
        (
            &format!("data:image/png;base64{png}"),
            "data:…: data url is missing comma",
        ),
        (
            &format!("data:image/png;base64,{png}!"),
            "data:image/png;base64,…: base64 not valid",
        ),
        (&format!("data:{png},x"), "invalid"),
        (
            &format!("blob:{png}"),
            "the scheme `blob` is not http, https or data",
        ),
        (&format!("{png}:x"), "cannot download"),
        (&prose, "it is not a URL: expected `https://…`"),
    ] {
        for input in [json!(image), json!({ "url": image })] {
            let job = TestJob::new(json!({ "image": input }))
                .run::<remote>()
                .await;
            let Err(error) = job.result else {
                // A data URL with an odd media type is valid.
                assert!(image.ends_with(",x"));
                continue;
            };
            let message = error.message();
            assert!(message.contains(why), "{message}");
            assert!(message.len() < 320, "{message}");
            assert!(!message.contains(&"QUJD".repeat(20)), "{message}");
        }
    }
    // A field of another type, an unknown field, and a checksum.
    for input in [
        json!({ "images": [], "steps": png }),
        json!({ "images": [{ "url": "data:,x", png.clone(): 1 }] }),
        json!({ "images": [{ "url": "data:,x", "sha256": png }] }),
        json!({ "images": png }),
    ] {
        let job = TestJob::new(input).run::<images>().await;
        let error = job.result.unwrap_err();
        assert_eq!(error.kind(), "invalid_input");
        assert!(error.message().len() < 320, "{error}");
        assert!(!error.message().contains(&"QUJD".repeat(20)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_sent_to_the_host_of_the_url_only() {
    let other = Hostile::start(|mut conn: Conn| async move {
        conn.answer("200 OK", &[], "weights").await;
    })
    .await;
    let there = format!("location: {}", other.url("cdn"));
    let server = Hostile::start(move |mut conn: Conn| {
        let there = there.clone();
        async move {
            let location = match (conn.path(), conn.header("authorization")) {
                ("gated", Some("bearer secret")) => {
                    return conn.answer("200 OK", &[], "weights").await;
                }
                ("moved", Some("bearer secret")) => "location: /gated",
                ("cdn", Some("bearer secret")) => there.as_str(),
                _ => return conn.answer("401 Unauthorized", &[], "").await,
            };
            conn.answer("302 Found", &[location], "").await;
        }
    })
    .await;
    let headers = json!({ "Authorization": "Bearer secret", "accept": "application/octet-stream" });
    for path in ["gated", "moved", "cdn"] {
        let job = download(json!({ "url": server.url(path), "headers": headers })).await;
        assert_eq!(job.result.unwrap(), "weights", "{path}");
    }
    assert!(server.requests()[0].contains("\naccept: application/octet-stream\r\n"));
    let [elsewhere] = &other.requests()[..] else {
        panic!("one request: {:?}", other.requests());
    };
    assert!(elsewhere.contains("\naccept: */*\r\n"), "{elsewhere}");
    assert!(!elsewhere.contains("secret"), "{elsewhere}");

    let before = server.requests().len();
    let error = error(download(json!(server.url("gated"))).await);
    assert!(error.starts_with("download_failed: "), "{error}");
    assert!(
        error.contains("status 401; if the link has expired, send a new one"),
        "{error}"
    );
    assert_eq!(server.requests().len(), before + 1, "nothing is retried");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_not_sent_back_after_a_detour() {
    let home = Hostile::start(|mut conn: Conn| async move {
        match conn.path().strip_prefix("via?") {
            Some(other) => {
                let to = format!("location: {other}?{}", conn.header("host").unwrap());
                conn.answer("307 Temporary Redirect", &[&to], "").await;
            }
            None => conn.answer("200 OK", &[], "home").await,
        }
    })
    .await;
    let away = Hostile::start(|mut conn: Conn| async move {
        let to = format!(
            "location: http://{}/home",
            conn.path().split('?').nth(1).unwrap()
        );
        conn.answer("308 Permanent Redirect", &[&to], "").await;
    })
    .await;
    let url = home.url(&format!("via?{}", away.url("")));
    let headers = json!({ "X-Api-Key": "secret" });
    let job = download(json!({ "url": url, "headers": headers })).await;
    assert_eq!(job.result.unwrap(), "home");
    let requests = [home.requests(), away.requests()].concat();
    assert_eq!(requests.len(), 3);
    let sent = requests.iter().filter(|head| head.contains("secret"));
    assert_eq!(sent.count(), 1, "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_headers_are_refused_before_the_handler() {
    let many: serde_json::Map<_, _> = (0..40)
        .map(|n| (format!("x-{n}"), json!("secret")))
        .collect();
    for (headers, why) in [
        (
            json!({ "Authorization": "secret\nx" }),
            "header `Authorization`: its value contains",
        ),
        (
            json!({ "Authorization": 5 }),
            "header `Authorization`: its value is not a string",
        ),
        (
            json!({ "Authorization": ["secret"] }),
            "header `Authorization`: its value is not a string",
        ),
        (
            json!({ "bad name": "secret" }),
            "header `bad name`: it is not a valid HTTP header name",
        ),
        (
            json!({ "": "secret" }),
            "header ``: it is not a valid HTTP header name",
        ),
        (
            json!({ "HOST": "secret" }),
            "downloads do not allow this header",
        ),
        (
            json!({ "range": "secret" }),
            "downloads do not allow this header",
        ),
        (
            json!({ "Proxy-Authorization": "secret" }),
            "downloads do not allow this header",
        ),
        (
            json!({ "Transfer-Encoding": "secret" }),
            "downloads do not allow this header",
        ),
        (
            json!({ "Metadata-Flavor": "secret" }),
            "downloads do not allow this header",
        ),
        (
            json!({ "X-aws-ec2-metadata-token": "secret" }),
            "downloads do not allow this header",
        ),
        (json!("Bearer secret"), "`headers` is not an object"),
        (json!(many), "at most 32 headers"),
    ] {
        let job = download(json!({ "url": "http://127.0.0.1:1/x", "headers": headers })).await;
        let error = error(job);
        assert!(
            error.starts_with("invalid_input: invalid input at `image`: "),
            "{error}"
        );
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_download_sends_its_headers_again() {
    let server = Hostile::start(|mut conn: Conn| async move {
        match conn.range() {
            None => {
                let head = "HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 7\r\n\r\nwei";
                conn.send(head).await;
            }
            Some(3) => {
                let range = "content-range: bytes 3-6/7";
                conn.answer("206 Partial Content", &[range], "ghts").await;
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
    let headers = json!({ "Authorization": "Bearer secret" });
    let job = download(json!({ "url": server.url("w"), "headers": headers })).await;
    assert_eq!(job.result.unwrap(), "weights");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert!(
            request.contains("authorization: bearer secret"),
            "{request}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_link_is_not_retried() {
    let server = Hostile::start(|mut conn: Conn| async move {
        let status = match conn.path().split('?').next() {
            Some("azure") => "403 Server failed to authenticate the request",
            Some("google") => "400 Bad Request",
            Some("gone") => "410 Gone",
            _ => "403 Forbidden",
        };
        conn.answer(status, &[], "<Error><Code>AccessDenied</Code></Error>")
            .await;
    })
    .await;
    for (path, status) in [
        ("amazon", 403),
        ("azure", 403),
        ("google", 400),
        ("gone", 410),
    ] {
        let before = server.requests().len();
        let url = server.url(&format!("{path}?X-Amz-Signature=secret&X-Amz-Expires=1"));
        let error = error(download(json!(url)).await);
        assert!(
            error.contains(&format!(
                "/{path}: the server responded with status {status}"
            )),
            "{error}"
        );
        assert_eq!(
            error.contains("the link has expired"),
            status == 403,
            "{error}"
        );
        assert_eq!(server.requests().len(), before + 1, "{path}");
    }
}

#[cfg(feature = "schema")]
#[test]
fn an_input_file_has_a_schema() {
    let schema = podwork::schema::<images>().input;
    let items = &schema["properties"]["images"]["items"];
    let file = match items["$ref"].as_str() {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')).unwrap(),
        None => items,
    };
    assert_eq!(file["anyOf"][0]["type"], "string", "{schema}");
    assert_eq!(file["anyOf"][1]["required"], json!(["url"]), "{schema}");
    assert_eq!(file["anyOf"][1]["additionalProperties"], json!(false));
    let members = file["anyOf"][1]["properties"].as_object().unwrap();
    let mut names: Vec<_> = members.keys().collect();
    names.sort();
    assert_eq!(names, ["headers", "name", "sha256", "url"]);
}
