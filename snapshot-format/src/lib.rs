#![doc = include_str!("../FORMAT.md")]
//!
#![doc = include_str!("../PARTS.md")]
#![forbid(unsafe_code)]

pub mod codec;
pub mod dir;
mod error;
pub mod handoff;
pub mod header;
pub mod overlay;
pub mod pages;
pub mod section;
pub mod state;
mod state_file;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tripwire;
pub mod working_set;

pub use dir::{ImageDir, ImageWriter};
pub use error::{Error, ErrorKind};
pub use header::{Architecture, Header};
pub use overlay::OverlayIndex;
pub use pages::MemoryIndex;
pub use section::Saved;
pub use state_file::{StateReader, StateWriter};
pub use working_set::WorkingSet;
