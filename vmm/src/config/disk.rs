//! A disk, as a person types it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{BucketConfig, Error, RateLimitConfig, RateUnit};

/// What a disk is called: the user's name for it, the guest's serial number, and the name of its section.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskId(String);

impl DiskId {
    /// The longest id, in bytes: what the serial number of a virtio disk has room for.
    pub const MAX: usize = 20;

    /// # Errors
    /// `id` is empty, longer than [`Self::MAX`], or has a character that is none of `a-z A-Z 0-9 - _ .`
    pub fn new(id: &str) -> Result<Self, Error> {
        let is_plain = id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if id.is_empty() || id.len() > Self::MAX || !is_plain {
            return Err(Error::DiskId { id: id.to_owned() });
        }
        Ok(Self(id.to_owned()))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A disk of a guest that is booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// What it is called.
    pub id: DiskId,
    /// The regular file or block device.
    pub path: PathBuf,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Whether what the guest writes goes to an overlay, so that the file stays as it is. Not with `read_only`.
    pub overlay: bool,
    /// Whether it is raw whatever its first bytes look like, which a guest may have written.
    pub is_raw: bool,
    /// What the guest may ask of it.
    pub limit: RateLimitConfig,
}

impl DiskConfig {
    /// Reads `ID=PATH[,readonly|,overlay][,format=raw][,bw=RATE][,iops=RATE]`; a path need not be UTF-8, and has no comma.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn parse(text: &OsStr) -> Result<Self, Error> {
        let (DiskPath { id, path }, options) = split(text)?;
        let limit = RateLimitConfig::default();
        let mut config = Self { id, path, read_only: false, overlay: false, is_raw: false, limit };
        for option in options {
            match option {
                b"readonly" => config.read_only = true,
                b"overlay" => config.overlay = true,
                b"format=raw" => config.is_raw = true,
                _ => config.limit.read(option)?,
            }
        }
        if config.read_only && config.overlay {
            return Err(Error::DiskReadonlyOverlay { id: config.id.as_str().to_owned() });
        }
        Ok(config)
    }
}

/// Another file for a disk that an image has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPath {
    /// The disk.
    pub id: DiskId,
    /// The regular file or block device to use.
    pub path: PathBuf,
}

impl DiskPath {
    /// Reads `ID=PATH`; a path need not be UTF-8, and has no comma.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn parse(text: &OsStr) -> Result<Self, Error> {
        let (disk, mut options) = split(text)?;
        match options.next() {
            None => Ok(disk),
            Some(_) => Err(Error::DiskOptionsRecorded { value: text.to_string_lossy().into_owned() }),
        }
    }
}

/// `ID=PATH`, and what follows it between commas.
fn split(text: &OsStr) -> Result<(DiskPath, impl Iterator<Item = &[u8]>), Error> {
    let refused = || Error::DiskSyntax { value: text.to_string_lossy().into_owned() };
    let bytes = text.as_bytes();
    let equals = bytes.iter().position(|byte| *byte == b'=').ok_or_else(refused)?;
    let mut parts = bytes[equals + 1..].split(|byte| *byte == b',');
    let path = parts.next().filter(|path| !path.is_empty()).ok_or(Error::EmptyPath { what: "the disk" })?;
    let id = DiskId::new(&String::from_utf8_lossy(&bytes[..equals]))?;
    Ok((DiskPath { id, path: PathBuf::from(OsStr::from_bytes(path)) }, parts))
}

impl RateLimitConfig {
    /// Takes `bw=RATE` or `iops=RATE`, each once.
    fn read(&mut self, option: &[u8]) -> Result<(), Error> {
        let text = String::from_utf8_lossy(option);
        let refused = || Error::DiskOption { value: text.clone().into_owned() };
        let (name, value) = text.split_once('=').ok_or_else(refused)?;
        let (bucket, unit) = match name {
            "bw" => (&mut self.bandwidth, RateUnit::Bytes),
            "iops" => (&mut self.operations, RateUnit::Operations),
            _ => return Err(refused()),
        };
        let limit = BucketConfig::parse(value, unit)?;
        if bucket.replace(limit).is_some() { Err(refused()) } else { Ok(()) }
    }
}
