//! Why a `state` file could not be read or written.

use crate::codec;
use crate::section::TableError;

/// Why a `state` file could not be read or written; [`Error::kind`] sorts the variants by what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The magic is not there.
    #[error("not a Rekindle image: the state file does not begin with the image magic")]
    NotAnImage,
    /// The file is larger than any state file may be.
    #[error("the state file is larger than {max} bytes")]
    TooLarge {
        /// The bound.
        max: u64,
    },
    /// The file ends before the smallest state file would.
    #[error("the state file is truncated: {len} bytes, at least {min} expected")]
    Truncated {
        /// Bytes there are.
        len: usize,
        /// Bytes that any state file has.
        min: usize,
    },
    /// The checksum over the file does not match.
    #[error("the state file is damaged: checksum {computed:#018x}, the file says {stored:#018x}")]
    Checksum {
        /// CRC64 at the end of the file.
        stored: u64,
        /// CRC64 of what is there.
        computed: u64,
    },
    /// The header states another length.
    #[error("the state file is damaged: {actual} bytes long, its header says {stated}")]
    Length {
        /// According to the header.
        stated: u64,
        /// In fact.
        actual: u64,
    },
    /// A reserved field of the header is not zero.
    #[error("the state file is damaged: a reserved field of the header is set")]
    Reserved,
    /// The section table is not sound.
    #[error("the section table is damaged at entry {entry}")]
    Table {
        /// Position in the table, from 0.
        entry: usize,
        /// What is wrong.
        #[source]
        source: TableError,
    },
    /// More sections than any image may have.
    #[error("{count} sections, at most {max} are possible")]
    TooManySections {
        /// How many.
        count: u64,
        /// The bound.
        max: usize,
    },
    /// The container is of another version.
    #[error("the image was written in format version {found}, this build reads {supported}")]
    FormatVersion {
        /// The image's.
        found: u16,
        /// This build's.
        supported: u16,
    },
    /// The image is of a machine of another architecture.
    #[error("the image is of architecture number {found}, this build restores x86_64 (number 1)")]
    Architecture {
        /// The image's, as numbered in FORMAT.md.
        found: u16,
    },
    /// A section was written by a version that this build does not read.
    #[error("section `{section}` was saved by version {saved}, this build reads {oldest} to {current}")]
    SectionVersion {
        /// Its name.
        section: String,
        /// Version in the image.
        saved: u16,
        /// Oldest version that this build reads.
        oldest: u16,
        /// Newest version that this build reads, the one it writes.
        current: u16,
    },
    /// Something needs a section that is not there.
    #[error("section `{section}` is missing")]
    MissingSection {
        /// Its name.
        section: String,
    },
    /// The image holds a section that nothing in this build's machine claims.
    #[error("nothing in this build claims section `{section}` (saved by version {saved})")]
    UnknownSection {
        /// Its name.
        section: String,
        /// Version in the image.
        saved: u16,
    },
    /// A section's bytes are no value of its type.
    #[error("section `{section}` is damaged (saved by version {saved})")]
    Decode {
        /// Its name.
        section: String,
        /// Version in the image.
        saved: u16,
        /// What is wrong.
        #[source]
        source: codec::Error,
    },
    /// A value exceeds what a section may hold.
    #[error("cannot encode section `{section}`")]
    Encode {
        /// Its name.
        section: String,
        /// What is wrong.
        #[source]
        source: codec::Error,
    },
    /// A section was added or taken under a name that is not one of its kind, or twice.
    #[error("`{section}` cannot be a section of kind `{kind}` here")]
    Misnamed {
        /// The name.
        section: String,
        /// The kind of the type that was added or taken.
        kind: &'static str,
        /// What is wrong with the name.
        #[source]
        source: TableError,
    },
}

/// What kind of failure it is, and so what an operator can do. A program that exits with a documented code maps
/// these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// These bytes or this directory were never an image.
    NotAnImage,
    /// It was an image and something has happened to it.
    Damaged,
    /// An intact image, of a version that this build does not read.
    Unsupported,
    /// An intact image of another architecture.
    WrongArchitecture,
    /// An intact file that lacks a section which the machine needs.
    MissingSection,
    /// An intact image with a section that nothing in this build claims.
    UnknownSection,
    /// The caller asked for something that cannot be written or read: a bug, or a machine beyond the format's bounds.
    Refused,
    /// The host's file system failed.
    Io,
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAnImage => ErrorKind::NotAnImage,
            Self::TooLarge { .. }
            | Self::Truncated { .. }
            | Self::Checksum { .. }
            | Self::Length { .. }
            | Self::Reserved
            | Self::Table { .. }
            | Self::TooManySections { .. }
            | Self::Decode { .. } => ErrorKind::Damaged,
            Self::FormatVersion { .. } | Self::SectionVersion { .. } => ErrorKind::Unsupported,
            Self::Architecture { .. } => ErrorKind::WrongArchitecture,
            Self::MissingSection { .. } => ErrorKind::MissingSection,
            Self::UnknownSection { .. } => ErrorKind::UnknownSection,
            Self::Encode { .. } | Self::Misnamed { .. } => ErrorKind::Refused,
        }
    }
}
