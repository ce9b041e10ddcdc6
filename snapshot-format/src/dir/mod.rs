//! The image directory: opening one, and writing one so that a half image is never visible.
//!
//! Owns names, descriptors and the commit protocol of FORMAT.md. Does not look into the files: what is in `state` is
//! the business of [`crate::StateReader`], what is in `memory` that of [`crate::pages`].

mod error;
mod open;
mod replace;
mod temporary;
mod write;

#[cfg(test)]
mod open_test;
#[cfg(test)]
mod replace_test;
#[cfg(test)]
mod write_test;

pub use error::{Error, is_disk_full};
pub use open::ImageDir;
pub use replace::{check_replaceable, replace_part};
pub use temporary::sweep_stale;
pub use write::ImageWriter;

/// Name of the file that [`crate::StateReader`] reads.
pub const STATE: &str = "state";

/// Name of the file that guest memory lies in.
pub const MEMORY: &str = "memory";

/// Name of the file that guest memory lies in compressed, in place of [`MEMORY`].
pub const MEMORY_PACK: &str = "memory-pack";

/// Name of the file that [`crate::WorkingSet`] reads.
pub const WORKING_SET: &str = "working-set";
