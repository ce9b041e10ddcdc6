//! Where the guest's console goes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Error;

/// The host's end of the guest's first serial port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SerialConfig {
    /// Standard input and output, bytes unchanged.
    #[default]
    Stdio,
    /// Output is dropped, there is no input.
    Null,
    /// Output is written to a file, there is no input.
    File(PathBuf),
}

impl SerialConfig {
    /// Reads `stdio`, `null` or `file:PATH`; a path need not be UTF-8.
    pub fn parse(text: &OsStr) -> Result<Self, Error> {
        match text.as_bytes() {
            b"stdio" => Ok(Self::Stdio),
            b"null" => Ok(Self::Null),
            bytes => match bytes.strip_prefix(b"file:") {
                Some(b"") => Err(Error::EmptyPath { what: "the file of the serial console" }),
                Some(path) => Ok(Self::File(PathBuf::from(OsStr::from_bytes(path)))),
                None => Err(Error::Serial { value: text.to_string_lossy().into_owned() }),
            },
        }
    }
}
