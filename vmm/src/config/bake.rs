//! What it takes to boot a guest to the point where it is worth keeping, and to keep it.

use std::path::PathBuf;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use super::{Error, ReclaimLimit, Timeout, VmConfig, VsockPort};

/// A regular expression over the bytes of the guest's console.
///
/// It matches in linear time whatever the guest prints, and never the empty string. `^` and `$` match at line ends.
#[derive(Clone, Debug)]
pub struct ReadyPattern(Regex);

impl ReadyPattern {
    /// Bytes that one compiled pattern may take; a longer pattern is a mistake.
    const SIZE_LIMIT: usize = 1 << 20;

    /// The compiled expression.
    pub fn regex(&self) -> &Regex {
        &self.0
    }
}

impl FromStr for ReadyPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let regex =
            RegexBuilder::new(text).multi_line(true).size_limit(Self::SIZE_LIMIT).build().map_err(
                |source| Error::PatternSyntax { value: text.to_owned(), source: Box::new(source) },
            )?;
        if regex.is_match(b"") {
            return Err(Error::PatternMatchesNothing { value: text.to_owned() });
        }
        Ok(Self(regex))
    }
}

/// How the guest says that it is ready.
#[derive(Clone, Debug)]
pub enum ReadyConfig {
    /// Its console output matches.
    Serial(ReadyPattern),
    /// It writes a byte to the readiness port.
    Port,
    /// It connects to this port of the host's.
    Vsock(VsockPort),
}

impl FromStr for ReadyConfig {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(pattern) = text.strip_prefix("serial:") {
            return Ok(Self::Serial(pattern.parse()?));
        }
        if let Some(port) = text.strip_prefix("vsock:") {
            return Ok(Self::Vsock(VsockPort::parse(port)?));
        }
        match text {
            "port" => Ok(Self::Port),
            _ => Err(Error::Ready { value: text.to_owned() }),
        }
    }
}

/// A VM that is booted, awaited, written to an image and ended.
#[derive(Clone, Debug)]
pub struct BakeConfig {
    /// The machine and its guest.
    pub vm: VmConfig,
    /// How the guest says that it is ready.
    pub ready: ReadyConfig,
    /// The image to write; must not exist.
    pub out: PathBuf,
    /// How long the guest may take to become ready.
    pub timeout: Timeout,
    /// For how long it may then give its free memory back; `None` for not at all.
    pub reclaim: Option<ReclaimLimit>,
    /// Where the control API listens meanwhile; `None` for no API.
    pub api_socket: Option<PathBuf>,
}
