//! Building images: the tools, and what they are given.

mod context;
mod tool;

pub(crate) use context::BuildContext;
pub(crate) use tool::{BuiltImage, ImageTool, readable};
