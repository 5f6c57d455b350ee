//! The commands of the tool, each in its own file or folder.

mod completions;
mod dev;
mod doctor;
mod image;
mod invoke;
mod new;

pub(crate) use completions::completions;
pub(crate) use dev::dev;
pub(crate) use doctor::doctor;
pub(crate) use image::image;
pub(crate) use invoke::invoke;
pub(crate) use new::new;
