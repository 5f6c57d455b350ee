//! The floor: the cost of the same jobs with hyper and without a worker runtime.

use std::net::SocketAddr;
use std::process::ExitCode;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use podwork_benches::Result;
use podwork_benches::contenders::floor::{FloorAnswer, FloorConnection, run};
use tokio::net::TcpStream;

struct HyperConnection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl HyperConnection {
    async fn call(&mut self, method: Method, path: &str, body: String) -> Result<FloorAnswer> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .body(Full::new(body.into()))?;
        let response = self.sender.send_request(request).await?;
        Ok(FloorAnswer {
            status: response.status().as_u16(),
            body: response.into_body().collect().await?.to_bytes(),
        })
    }
}

impl FloorConnection for HyperConnection {
    async fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            host: addr.to_string(),
        })
    }

    async fn get(&mut self, path: &str) -> Result<FloorAnswer> {
        self.call(Method::GET, path, String::new()).await
    }

    async fn post(&mut self, path: &str, body: String) -> Result<FloorAnswer> {
        self.call(Method::POST, path, body).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run::<HyperConnection>().await
}
