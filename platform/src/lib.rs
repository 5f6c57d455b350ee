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

// From the face down to the rules; each module imports from those below it.
mod platform; // the face: builder, start, shutdown
mod routes; // requests to calls of an endpoint, and its answers to responses
mod connections; // TCP connections: accepted, served, ended in order
mod registry; // all endpoints, by id
mod job_events; // one job, watched from its submission to its end
mod run_request; // a client's request, checked and made into a job
mod endpoint_handle; // one endpoint among connections: its rates, its time, and who waits
mod webhooks; // calls to those who asked to hear of a job's end
mod endpoint; // one endpoint: records are read, take a step, and are committed
mod answers; // a job as clients, its worker and its webhook see it
mod store; // records, payloads and indexes
mod waiters; // those who wait for an endpoint to change
mod clock; // the platform's clock, which can be set ahead
mod engine; // the rules as pure steps
mod faults; // trouble on purpose
mod schema_example; // an example of what a JSON Schema describes
mod settings; // options of the platform as a whole
mod webhook_signature; // signatures of webhook calls
mod json_text; // JSON text that does not copy its payloads
mod rules; // limits of an endpoint
mod units; // sizes and times, as people write them
mod error; // why the platform could not start, or refused a job

pub use error::Error;
pub use faults::Faults;
pub use job_events::JobEvent;
pub use platform::{Builder, Platform};
pub use podwork_protocol::HandlerSchema;
pub use podwork_protocol::client::{RunRequest, StatusResponse};
pub use rules::{Rules, Span};
