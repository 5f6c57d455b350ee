//! Reads arbitrary bytes as the schema of a handler, and requests the pages that the platform makes of it.
#![no_main]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use podwork_platform::{HandlerSchema, Platform};
use serde_json::Value;
use tokio::runtime::Runtime;

/// The platform, which runs as long as the process.
static PLATFORM: LazyLock<&'static Platform> = LazyLock::new(|| {
    let runtime: &Runtime = Box::leak(Box::new(Runtime::new().expect("a runtime")));
    let platform = runtime.block_on(Platform::builder().start());
    Box::leak(Box::new(platform.expect("a port")))
});

/// Returns the status line and the body of a page.
fn get(path: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(PLATFORM.addr()).expect("the platform listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .expect("the platform reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let body = answer.split_off(head.expect("a head") + 4);
    let status = String::from_utf8_lossy(&answer);
    (status.lines().next().unwrap_or_default().to_owned(), body)
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(schema) = serde_json::from_slice::<HandlerSchema>(bytes) else {
        return;
    };
    PLATFORM.set_schema(Some(schema));
    for path in ["/openapi.json", "/docs", "/"] {
        let (status, body) = get(path);
        assert_eq!(status, "HTTP/1.1 200 OK", "{path}");
        if path.ends_with(".json") {
            serde_json::from_slice::<Value>(&body).expect("JSON");
        }
    }
});
