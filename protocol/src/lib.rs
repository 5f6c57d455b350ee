//! Wire types of Runpod Serverless.
//!
//! There are two contracts: between *workers* and the platform ([`worker`], [`template`], [`mod@env`]), and between
//! *clients* and the platform ([`client`]). Both share [`JobStatus`], the documented [`limits`], and the distinction of
//! public from special-purpose [addresses](mod@address). The crate does no I/O. It is the only code that `podwork`, the
//! worker runtime, and `podwork-platform`, the local platform, have in common. The feature `failure` adds the
//! explanations of failed connections that the worker and the tool share.
//!
//! Inputs and outputs of jobs are [raw JSON text](RawValue), so a payload passes through unparsed and unchanged.
//!
//! Structs are `#[non_exhaustive]`: create them with their constructors, then set their fields.
//!
//! ```
//! use podwork_protocol::RawValue;
//! use podwork_protocol::client::RunRequest;
//!
//! let input = RawValue::from_string(r#"{"prompt": "to be"}"#.to_owned())?;
//! let mut request = RunRequest::new(input);
//! request.webhook = Some("https://example.com/done".to_owned());
//! assert_eq!(
//!     serde_json::to_string(&request)?,
//!     r#"{"input":{"prompt": "to be"},"webhook":"https://example.com/done"}"#
//! );
//! # Ok::<(), serde_json::Error>(())
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod written_request; // requests in files and on command lines

pub mod client; // bodies of the client API

pub mod worker; // bodies that a worker and the platform exchange

pub mod template; // URL templates

pub mod env; // names of variables

pub mod limits; // documented limits

pub mod address; // public and special-purpose IP addresses, hosts that are this machine

#[cfg(feature = "failure")]
pub mod failure; // connection failures that a retry does not change

mod schema; // a handler's input and output as JSON Schema

mod raw; // members that are read more strictly or more tolerantly than by default

mod status; // a job's status

pub use schema::HandlerSchema;
pub use serde_json::value::RawValue;
pub use status::JobStatus;
pub use written_request::{WrittenRequest, without_bom};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
