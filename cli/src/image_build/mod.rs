//! Image builds: the tools, and their build context.

mod context;
mod tool;

pub(crate) use context::BuildContext;
pub(crate) use tool::{BuiltImage, ImageTool, readable};
