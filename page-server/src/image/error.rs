//! Why something cannot be served, packed or unpacked.

use std::io;
use std::path::PathBuf;

use snapshot_format::ErrorKind;
use snapshot_format::pages;

use crate::source::{self, PackError};

/// Why something cannot be served, packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image directory cannot be opened, or lacks a part.
    #[error(transparent)]
    Directory(snapshot_format::dir::Error),
    /// The state file is no state file, damaged, or of another version.
    #[error("cannot read the state of image `{}`", path.display())]
    State {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: snapshot_format::Error,
    },
    /// The page index is damaged, or the memory file does not fit it.
    #[error("cannot use the memory of image `{}`", path.display())]
    Memory {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: pages::Error,
    },
    /// The pack is damaged, of another version or of another image.
    #[error("cannot use the packed memory of image `{}`", path.display())]
    Pack {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: PackError,
    },
    /// A memory file or a layer cannot be used.
    #[error("cannot use the memory in `{}`", path.display())]
    Source {
        /// What was named.
        path: PathBuf,
        /// Why.
        #[source]
        source: source::Error,
    },
    /// There is nothing to pack.
    #[error("image `{}` is packed already", path.display())]
    AlreadyPacked {
        /// The image.
        path: PathBuf,
    },
    /// There is nothing to unpack.
    #[error("image `{}` is not packed", path.display())]
    NotPacked {
        /// The image.
        path: PathBuf,
    },
    /// Memory cannot be read while it is packed or unpacked.
    #[error("cannot read the memory that is to be copied")]
    Copy(#[source] source::Error),
    /// A pack or a memory file cannot be written.
    #[error("cannot write memory at offset {offset:#x}")]
    Write {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A frame cannot be compressed.
    #[error("cannot compress memory")]
    Compress(#[source] io::Error),
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Directory(error) => error.kind(),
            Self::State { source, .. } => source.kind(),
            Self::Memory { source, .. } => source.kind(),
            Self::Pack { source: PackError::Index(error), .. } => error.kind(),
            Self::Pack { source: PackError::File(error), .. }
            | Self::Source { source: error, .. }
            | Self::Copy(error) => match error {
                source::Error::Damaged { .. } | source::Error::Changed { .. } => ErrorKind::Damaged,
                source::Error::Read { .. } => ErrorKind::Io,
            },
            Self::AlreadyPacked { .. } | Self::NotPacked { .. } => ErrorKind::Refused,
            Self::Write { .. } | Self::Compress(_) => ErrorKind::Io,
        }
    }
}
