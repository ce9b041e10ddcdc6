//! Why an image directory could not be opened or written.

use std::io;
use std::path::PathBuf;

use crate::error::ErrorKind;
use crate::header::MAX_STATE_BYTES;

/// Why an image directory could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image cannot be opened at all.
    #[error("cannot open image `{}`", path.display())]
    Open {
        /// The image directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the path names is no directory, or has no `state`.
    #[error("`{}` is not a Rekindle image: {why}", path.display())]
    NotAnImage {
        /// The path.
        path: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// A part of the image is missing.
    #[error("the image `{}` has no file `{part}`", path.display())]
    MissingPart {
        /// The image directory.
        path: PathBuf,
        /// The file's name.
        part: String,
    },
    /// Memory is needed as it was, and the image has it compressed.
    #[error("the memory of image `{}` is packed", path.display())]
    Packed {
        /// The image directory.
        path: PathBuf,
    },
    /// The image was removed, or replaced by another directory, while its parts were being opened or a part was being
    /// added.
    #[error("image `{}` was removed or replaced meanwhile", path.display())]
    Replaced {
        /// The image directory.
        path: PathBuf,
    },
    /// A part of the image is a directory, a link, a device or a pipe.
    #[error("`{}` is not a regular file", path.display())]
    NotRegular {
        /// The part.
        path: PathBuf,
    },
    /// The `state` file is larger than any state file may be.
    #[error("`{}` is larger than {MAX_STATE_BYTES} bytes", path.display())]
    StateTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A part of the image could not be opened or read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The part.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The target has no last component that could be created.
    #[error("`{}` cannot be the name of an image", path.display())]
    BadTarget {
        /// The path as given.
        path: PathBuf,
    },
    /// There is something at the target already.
    #[error("`{}` exists already", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// A file name that is not a plain name, or is taken.
    #[error("`{name}` cannot be the name of a part of an image")]
    BadPart {
        /// The name.
        name: String,
    },
    /// The directory that the image is written into could not be made.
    #[error("cannot create a directory beside `{}`", path.display())]
    Create {
        /// The target.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part could not be created, written or flushed to disk. A full disk is `StorageFull` in the source.
    #[error("cannot write `{part}` of image `{}`", path.display())]
    Write {
        /// The target.
        path: PathBuf,
        /// The part's name; `.` is the directory.
        part: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Everything was written and the last step failed: there is no image.
    #[error("cannot give the image its name `{}`", path.display())]
    Rename {
        /// The target.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The target lies in the directory of another image, which has its own parts and nothing else.
    #[error("`{}` lies within another image", path.display())]
    WithinImage {
        /// The target.
        path: PathBuf,
    },
    /// The image is complete and has its name, but whether the name survives a power failure is unknown.
    #[error("image `{}` is written, but its directory could not be flushed to disk", path.display())]
    SyncParent {
        /// The target.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Left-overs of earlier attempts could not be looked for.
    #[error("cannot look for left-overs in `{}`", path.display())]
    Sweep {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAnImage { .. } => ErrorKind::NotAnImage,
            Self::MissingPart { .. } | Self::NotRegular { .. } | Self::StateTooLarge { .. } => {
                ErrorKind::Damaged
            }
            Self::BadTarget { .. }
            | Self::Exists { .. }
            | Self::BadPart { .. }
            | Self::Packed { .. }
            | Self::WithinImage { .. } => ErrorKind::Refused,
            Self::Open { .. }
            | Self::Read { .. }
            | Self::Create { .. }
            | Self::Write { .. }
            | Self::Rename { .. }
            | Self::Replaced { .. }
            | Self::SyncParent { .. }
            | Self::Sweep { .. } => ErrorKind::Io,
        }
    }

    /// Whether the disk, or the user's share of it, is full.
    pub fn is_disk_full(&self) -> bool {
        let source = std::error::Error::source(self).and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(is_disk_full)
    }
}

/// Whether the disk, or the user's share of it, is full.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
