//! What it takes to bring a guest back from an image.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;

use super::{DeviceOverrides, Error, PagesTimeout, RecordTime, SerialConfig};

/// How the guest's memory comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryMode {
    /// A private mapping of the image's memory file: pages come from the page cache as the guest touches them, and
    /// what it writes stays its own.
    #[default]
    Mmap,
    /// Pages are delivered by a page server as the guest touches them.
    Lazy,
}

impl FromStr for MemoryMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "mmap" => Ok(Self::Mmap),
            "lazy" => Ok(Self::Lazy),
            _ => Err(Error::MemoryMode { value: text.to_owned() }),
        }
    }
}

/// How the guest's memory comes back, and who brings it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryConfig {
    /// As [`MemoryMode::Mmap`] if the image has its memory as a file, and as [`MemoryMode::Lazy`] if it has it packed.
    AsKept,
    /// As [`MemoryMode::Mmap`].
    Mmap,
    /// As [`MemoryMode::Lazy`].
    Lazy {
        /// The socket of the page server; `None` for a thread of this process.
        server: Option<PathBuf>,
        /// How long a page may take.
        timeout: PagesTimeout,
        /// Where every fault that this process serves itself is written down; `None` for nowhere.
        trace: Option<PathBuf>,
    },
}

impl MemoryConfig {
    /// From the options that say so, of which some do not go together.
    ///
    /// # Errors
    /// A page server, its time limit or its trace where nobody delivers pages; a trace of another process.
    pub fn new(
        mode: Option<MemoryMode>,
        server: Option<PathBuf>,
        timeout: Option<PagesTimeout>,
        trace: Option<PathBuf>,
    ) -> Result<Self, Error> {
        if server.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(Error::EmptyPath { what: "the page server's socket" });
        }
        if (mode, &server, timeout, &trace) == (None, &None, None, &None) {
            return Ok(Self::AsKept);
        }
        let mode = mode.unwrap_or(if server.is_some() { MemoryMode::Lazy } else { MemoryMode::Mmap });
        let option = match (&server, &timeout, &trace) {
            (Some(_), _, _) => "--pages",
            (_, Some(_), _) => "--pages-timeout",
            (_, _, Some(_)) => "--trace",
            _ => "",
        };
        match mode {
            MemoryMode::Mmap if option.is_empty() => Ok(Self::Mmap),
            MemoryMode::Mmap => Err(Error::NobodyDelivers { option }),
            MemoryMode::Lazy if server.is_some() && trace.is_some() => Err(Error::TraceElsewhere),
            MemoryMode::Lazy => Ok(Self::Lazy { server, timeout: timeout.unwrap_or_default(), trace }),
        }
    }
}

impl MemoryConfig {
    /// What it comes to for an image whose memory is packed or not.
    #[must_use]
    pub fn of_image(self, is_packed: bool) -> Self {
        match self {
            Self::AsKept if is_packed => {
                Self::Lazy { server: None, timeout: PagesTimeout::default(), trace: None }
            }
            Self::AsKept => Self::Mmap,
            chosen => chosen,
        }
    }
}

/// Something that is on or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// On.
    #[default]
    On,
    /// Off.
    Off,
}

impl Switch {
    /// Whether it is on.
    #[must_use]
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl FromStr for Switch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(Error::Switch { value: text.to_owned() }),
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
    pub memory: MemoryConfig,
    /// Whether the pages that a guest was seen to touch are brought in before it does.
    pub prefetch: Switch,
    /// For how long it is watched which pages the guest touches, for the image to have; `None` for not at all.
    pub record: Option<RecordTime>,
    /// The guest's console, in place of what it was.
    pub serial: SerialConfig,
    /// What its virtio devices use of the host, in place of what the image says.
    pub overrides: DeviceOverrides,
    /// Where to write how long each phase took; `None` for nowhere.
    pub report: Option<ReportTarget>,
    /// Where the control API listens; `None` for no API.
    pub api_socket: Option<PathBuf>,
    /// Whether the guest stands still until it is resumed by the control API.
    pub paused: bool,
}

impl RestoreConfig {
    /// Takes what goes together, and nothing else.
    ///
    /// # Errors
    /// A guest that stands still, and nobody who could resume it, or whose first pages are to be watched.
    pub fn checked(self) -> Result<Self, Error> {
        match (self.paused, &self.api_socket, &self.record) {
            (true, None, _) => Err(Error::PausedForEver),
            (true, _, Some(_)) => Err(Error::PausedRecord),
            _ => Ok(self),
        }
    }
}
