//! The wire contracts of Runpod Serverless, as types.
//!
//! Two parties speak them: a *worker* with the platform ([`worker`], [`template`], [`mod@env`]), and a *client* with the
//! platform ([`client`]). Both share [`JobStatus`] and the documented [`limits`]. The crate does no I/O: `podwork` (the
//! worker) and `podwork-platform` (the local platform) meet only here.
//!
//! Job input and output are kept as [raw JSON text](RawValue), so that a payload passes through unparsed and unchanged.

pub mod client;
pub mod env;
pub mod limits;
mod raw;
mod schema;
mod status;
pub mod template;
pub mod worker;

pub use schema::HandlerSchema;
pub use serde_json::value::RawValue;
pub use status::JobStatus;
