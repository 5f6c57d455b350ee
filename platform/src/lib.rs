//! A local Runpod Serverless platform: the queue, the client API and the worker API, to develop and test workers
//! without the cloud.
//!
//! ```
//! use podwork_platform::{Platform, RunRequest};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let platform = Platform::builder().start().await?;
//! let request: RunRequest = serde_json::from_str(r#"{"input": {"name": "Ada"}}"#).unwrap();
//! let job_id = platform.submit(request)?;
//! for (variable, value) in platform.worker_env("worker-1") {
//!     println!("export {variable}='{value}'"); // for a worker, which then takes the job
//! }
//! # let _ = job_id;
//! platform.shutdown().await;
//! # Ok::<(), podwork_platform::Error>(())
//! # }).unwrap();
//! ```
//!
//! Each endpoint answers below `/v2/<endpoint>`, and comes to life when it is first used; one of them answers at the
//! root as well. What a client may ask is `/run`, `/runsync`, `/status`, `/status-sync`, `/stream`, `/cancel`,
//! `/retry`, `/purge-queue` and `/health`, by the documented methods, limits and codes.
//!
//! A browser at the platform's own address sees a console: the queue, the workers and the jobs as they are, and a form to
//! submit more.
//!
//! What an endpoint takes and gives, once that is [said](Builder::schema), is shown at `/docs` and in `/openapi.json`.
//!
//! Rate limits, webhooks and leases are the documented ones. Keys are asked for once they are set, and
//! [trouble](Faults) is made on purpose. [`Platform::advance`] sets the clock ahead.

mod clock;
mod core;
mod endpoints;
mod error;
mod example;
mod faults;
mod follow;
mod http;
mod hub;
mod platform;
mod rules;
mod serve;
mod settings;
mod submission;
mod units;
mod webhooks;

pub use error::Error;
pub use faults::Faults;
pub use follow::JobEvent;
pub use platform::{Builder, Platform};
pub use podwork_protocol::HandlerSchema;
pub use podwork_protocol::client::{RunRequest, StatusResponse};
pub use rules::{Rules, Span};
