//! What it takes to bring a guest back from an image.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;

use super::{DeviceOverrides, Error, SerialConfig};

/// How the guest's memory comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryMode {
    /// A private mapping of the image's memory file: pages come from the page cache as the guest touches them, and
    /// what it writes stays its own.
    #[default]
    Mmap,
}

impl FromStr for MemoryMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "mmap" => Ok(Self::Mmap),
            "lazy" => Err(Error::NotInThisVersion {
                what: "`--memory-mode lazy`",
                remedy: "use --memory-mode mmap, which reads pages as the guest touches them",
            }),
            _ => Err(Error::MemoryMode { value: text.to_owned() }),
        }
    }
}

/// Where the report of a restore's phases goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportTarget {
    /// Standard output.
    Stdout,
    /// A file, which is replaced.
    File(PathBuf),
}

impl ReportTarget {
    /// Reads a path, or `-` for standard output.
    pub fn parse(text: &OsStr) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::EmptyPath { what: "the report" });
        }
        Ok(if text == "-" { Self::Stdout } else { Self::File(PathBuf::from(text)) })
    }
}

/// A VM that is brought back from an image and then runs until it ends or is told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreConfig {
    /// The image's directory.
    pub image: PathBuf,
    /// How its memory comes back.
    pub memory_mode: MemoryMode,
    /// The guest's console, in place of what it was.
    pub serial: SerialConfig,
    /// What its virtio devices use of the host, in place of what the image says.
    pub overrides: DeviceOverrides,
    /// Where to write how long each phase took; `None` for nowhere.
    pub report: Option<ReportTarget>,
    /// Where the control API listens; `None` for no API.
    pub api_socket: Option<PathBuf>,
}
