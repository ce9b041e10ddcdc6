//! Where the guest's console goes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Error, RateUnit};

/// The host's end of the guest's first serial port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SerialConfig {
    /// Standard input and output, bytes unchanged.
    #[default]
    Stdio,
    /// Output is dropped, there is no input.
    Null,
    /// Output is written to a file, there is no input.
    File(SerialFile),
}

/// A file that the console is written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SerialFile {
    /// The file.
    pub path: PathBuf,
    /// The most bytes that it may have.
    pub size: Option<u64>,
    /// The most bytes that are written in a second.
    pub rate: Option<u64>,
}

impl SerialFile {
    /// The least of either limit: room for a line that says what is missing.
    pub const LEAST: u64 = 100;

    /// Takes options from the end of `text`, as long as there are any: a path may have commas as well.
    fn parse(mut text: &[u8]) -> Result<Self, Error> {
        let (mut size, mut rate) = (None, None);
        while let Some(comma) = text.iter().rposition(|byte| *byte == b',') {
            let option = &text[comma + 1..];
            let (known, value) = match (option.strip_prefix(b"size="), option.strip_prefix(b"rate=")) {
                (Some(value), _) => (&mut size, value),
                (_, Some(value)) => (&mut rate, value),
                // A path may have commas, but what looks like an option is none of its.
                _ if is_option(option) => {
                    return Err(Error::SerialOption { option: String::from_utf8_lossy(option).into_owned() });
                }
                _ => break,
            };
            let value = String::from_utf8_lossy(value);
            let bytes = RateUnit::Bytes.number(&value).filter(|bytes| *bytes >= Self::LEAST);
            let bytes = bytes.ok_or_else(|| Error::SerialLimit { value: value.into_owned() })?;
            if known.replace(bytes).is_some() {
                return Err(Error::SerialTwice);
            }
            text = &text[..comma];
        }
        match text {
            b"" => Err(Error::EmptyPath { what: "the file of the serial console" }),
            path => Ok(Self { path: PathBuf::from(OsStr::from_bytes(path)), size, rate }),
        }
    }
}

/// `word=value`: what other options of the command line look like.
fn is_option(text: &[u8]) -> bool {
    let name = text.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.len() < text.len() && !name.is_empty() && name.iter().all(u8::is_ascii_lowercase)
}

impl SerialConfig {
    /// Reads `stdio`, `null` or `file:PATH[,size=BYTES][,rate=BYTES]`; a path need not be UTF-8.
    pub fn parse(text: &OsStr) -> Result<Self, Error> {
        match text.as_bytes() {
            b"stdio" => Ok(Self::Stdio),
            b"null" => Ok(Self::Null),
            bytes => match bytes.strip_prefix(b"file:") {
                Some(file) => SerialFile::parse(file).map(Self::File),
                None => Err(Error::Serial { value: text.to_string_lossy().into_owned() }),
            },
        }
    }
}
