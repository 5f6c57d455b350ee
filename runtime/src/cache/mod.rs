//! A warm cache on a network volume, and where the platform's cached models are (feature `cache`; on Unix).
//!
//! What a worker downloads or compiles at its first start, a later one need not: [`VolumeCache`] brings directories from
//! the volume before the set-up, and takes what is new back to it.
//!
//! ```no_run
//! use podwork::cache::{VolumeCache, huggingface_snapshot};
//! use podwork::{Result, Worker, handler};
//!
//! struct Model;
//!
//! impl Model {
//!     fn load() -> Result<Self> {
//!         let weights = huggingface_snapshot("openai/whisper-tiny", None)?.join("model.safetensors");
//!         // … and what it compiles is kept in /root/.cache/torch.
//! #       let _ = weights;
//!         Ok(Self)
//!     }
//! }
//!
//! #[handler]
//! async fn caption(prompt: String, model: &Model) -> String {
//!     prompt
//! }
//!
//! fn main() -> podwork::ExitCode {
//!     Worker::new::<caption>()
//!         .cache(VolumeCache::new(["/root/.cache/torch"]))
//!         .setup(Model::load)
//!         .run()
//! }
//! ```

mod huggingface;
mod hydrate;
mod manifest;
mod pack;
mod parallel;
mod plan;
mod report;
mod store;
mod sweep;
mod sync;
mod tree;
mod volume_cache;

pub use huggingface::{SnapshotError, huggingface_snapshot, huggingface_snapshot_in};
pub use report::{CacheError, Hydrated, Synced};
pub use volume_cache::VolumeCache;

crate::error::handler_error::error_kind!(CacheError, "cache_failed");
