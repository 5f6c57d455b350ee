//! A local Runpod Serverless platform to develop and test workers without the cloud. It has the job queue, the client
//! API and the worker API.
//!
//! ```
//! use podwork_platform::{Platform, RunRequest};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let platform = Platform::builder().start().await?;
//! let request: RunRequest = serde_json::from_str(r#"{"input": {"name": "Ada"}}"#).unwrap();
//! let job_id = platform.submit(request)?;
//! for (variable, value) in platform.worker_env("worker-1") {
//!     println!("export {variable}='{value}'"); // a worker with this environment runs the job
//! }
//! # let _ = job_id;
//! platform.shutdown().await;
//! # Ok::<(), podwork_platform::Error>(())
//! # }).unwrap();
//! ```
//!
//! The API of each endpoint is below `/v2/<endpoint>`. An endpoint is created when it is first used. The API of the
//! default endpoint is also at the root. Clients can call `/run`, `/runsync`, `/status`, `/status-sync`, `/stream`,
//! `/cancel`, `/retry`, `/purge-queue` and `/health`, with the documented methods, limits and status codes.
//!
//! The page at the platform's root is a console. It shows the queue, the workers and the jobs live, and has a form to
//! submit jobs.
//!
//! If the [schema](Builder::schema) of an endpoint's input and output is set, `/docs` and `/openapi.json` show it.
//!
//! Rate limits, webhooks and leases work as documented by Runpod. An API key is required if one is configured. The
//! platform can [inject faults](Faults), and [`Platform::advance`] moves its clock forward.

// From the public API down to the rules; each module imports only from modules below it.
mod platform; // public API: builder, start, shutdown
mod routes; // HTTP routes: requests become endpoint calls, results become responses
mod connections; // TCP connections: accept, serve, shut down
mod registry; // all endpoints, by id
mod job_events; // event stream of one job, from submission to end
mod run_request; // validation of a client's request
mod endpoint_handle; // one endpoint as shared by connections: call limits, deadlines, waiting calls
mod call_limits; // limits on the rate and the concurrency of calls
mod webhooks; // delivery of webhook calls
mod webhook_client; // HTTP client for webhook calls
mod endpoint; // one endpoint: reads records, applies steps, commits
mod answers; // JSON of a job for clients, its worker and its webhook
mod store; // records, payloads and indexes
mod waiters; // notifications for calls that wait for a change
mod clock; // the platform's clock, which can be moved forward
mod engine; // the rules as pure steps
mod faults; // fault injection
mod schema_example; // example values for a JSON Schema
mod settings; // settings of the whole platform
mod browser_guard; // hosts and origins that the platform answers to
mod api_key; // API keys of clients and workers
mod webhook_signature; // signatures of webhook calls
mod json_text; // JSON text that does not copy its payloads
mod rules; // limits of an endpoint
mod units; // parsing of sizes and durations
mod threads; // start of a program's async runtime
mod error; // public error type

pub use error::Error;
pub use faults::Faults;
pub use job_events::JobEvent;
pub use platform::{Builder, Platform};
pub use podwork_protocol::HandlerSchema;
pub use podwork_protocol::client::{RunRequest, StatusResponse};
pub use rules::{CallRate, Rules, Span};
#[doc(hidden)]
pub use threads::start_runtime;
