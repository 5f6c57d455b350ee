//! The floor of the platform: one bare axum route that answers like `/run` and does no work.

use axum::body::Bytes;
use axum::routing::post;
use axum::{Json, Router};
use podwork_benches::Result;
use podwork_protocol::JobStatus;
use podwork_protocol::client::JobState;
use tokio::net::TcpListener;

async fn run(_: Bytes) -> Json<JobState> {
    Json(JobState::new(uuid::Uuid::new_v4(), JobStatus::InQueue))
}

#[tokio::main]
async fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("# Console: http://{}/", listener.local_addr()?);
    Ok(axum::serve(listener, Router::new().route("/run", post(run))).await?)
}
