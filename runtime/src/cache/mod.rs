//! A warm cache on a network volume, and the location of the platform's cached models (feature `cache`; Unix only).
//!
//! Later workers reuse what one worker downloaded or compiled at its first start. [`VolumeCache`] copies the cached
//! directories from the volume before the set-up, and copies new files back to the volume.
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
//!         // … compiles kernels into /root/.cache/torch.
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

// The public type, its settings and its state.
mod volume_cache;

// Copying from the volume to the local directories, and back.
mod hydrate;
mod sync;

// The content of the next generation.
mod plan;

// Writing local files to objects.
mod pack;

// The local directories.
mod tree;

// The volume: objects, generations, and their removal.
mod store;
mod sweep;

// The format of a generation.
mod manifest;

// Parallel file I/O, and file operations that the standard library lacks.
mod file_io;
mod parallel;

// Results and errors.
mod report;

// Models from Hugging Face.
mod huggingface;

pub use huggingface::{SnapshotError, huggingface_snapshot, huggingface_snapshot_in};
pub use report::{CacheError, Hydrated, Synced};
pub use volume_cache::VolumeCache;

crate::error::handler_error::error_kind!(CacheError, "cache_failed");
crate::error::handler_error::error_kind!(SnapshotError, "model_not_cached");
