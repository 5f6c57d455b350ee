//! Sends arbitrary bytes to a platform. It must answer in HTTP or not at all, never with status 500, and keep serving.
#![no_main]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use podwork_platform::Platform;
use tokio::runtime::Runtime;

/// The address of the platform, which runs as long as the process.
static PLATFORM: LazyLock<SocketAddr> = LazyLock::new(|| {
    let runtime: &Runtime = Box::leak(Box::new(Runtime::new().expect("a runtime")));
    // Requests do not wait, and the platform keeps few jobs.
    let rules = "poll_hold=1ms,stream_hold=1ms,wait=1ms,wait_range=1ms..1ms,run_rate=0,runsync_rate=0,jobs=1000";
    let rules = rules.parse().expect("rules");
    let platform = runtime.block_on(Platform::builder().rules(rules).start());
    Box::leak(Box::new(platform.expect("a port"))).addr()
});

/// Sends the bytes, and returns the answer. With `goes`, it closes the sending side first.
fn talk(bytes: &[u8], goes: bool) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(*PLATFORM)?;
    stream.write_all(bytes)?;
    if goes {
        stream.shutdown(Shutdown::Write)?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fuzz_target!(|bytes: &[u8]| {
    // A broken connection is accepted as well: the platform may reject a request before it has read all of it.
    if let Ok(answer) = talk(bytes, true) {
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "));
        assert!(!answer.starts_with(b"HTTP/1.1 500"));
    }
    let health = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let well = talk(health, false);
    assert!(
        well.expect("the platform keeps serving")
            .starts_with(b"HTTP/1.1 200")
    );
});
