//! The socket device, as a person types it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Error;

/// A guest's context id: how it is addressed. It names the guest within its own machine, so clones may share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestCid(u32);

impl GuestCid {
    /// From 3 on, because those below are the hypervisor's, the guest's own and the host's; less than 2^32 - 1, which
    /// means any (virtio 1.2, 5.10.4).
    #[must_use]
    pub const fn new(cid: u32) -> Option<Self> {
        if cid > 2 && cid < u32::MAX { Some(Self(cid)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A port of the host's, 0 to 2^32 - 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VsockPort(u32);

impl VsockPort {
    /// Reads a decimal number.
    ///
    /// # Errors
    /// It is none, or no port.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match number(text.as_bytes()) {
            Some(port) if port < u32::MAX => Ok(Self(port)),
            _ => Err(Error::VsockPort { value: text.to_owned() }),
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The socket device of a guest that is booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VsockConfig {
    /// The guest's address.
    pub cid: GuestCid,
    /// The host's socket, which is made.
    pub path: PathBuf,
    /// The port of the host's by which the guest says that it is ready, if that is how.
    pub ready: Option<VsockPort>,
}

impl VsockConfig {
    /// Reads `cid=N,uds=PATH`; a path need not be UTF-8, and has no comma.
    ///
    /// # Errors
    /// It is not of that form, or no guest can have the CID.
    pub fn parse(text: &OsStr) -> Result<Self, Error> {
        let refused = || Error::VsockSyntax { value: text.to_string_lossy().into_owned() };
        let (mut cid, mut path) = (None, None);
        for part in text.as_bytes().split(|byte| *byte == b',') {
            let taken = match (part.strip_prefix(b"cid="), part.strip_prefix(b"uds=")) {
                (Some(value), _) => cid.replace(value).is_none(),
                (_, Some(value)) => path.replace(value).is_none(),
                _ => false,
            };
            if !taken {
                return Err(refused());
            }
        }
        let (cid, path) = cid.zip(path).ok_or_else(refused)?;
        let cid = number(cid)
            .and_then(GuestCid::new)
            .ok_or_else(|| Error::VsockCid { value: String::from_utf8_lossy(cid).into_owned() })?;
        Ok(Self { cid, path: socket(path)?, ready: None })
    }
}

/// Another socket for the device that an image has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VsockPath(pub PathBuf);

impl VsockPath {
    /// Reads `uds=PATH`; a path need not be UTF-8, and has no comma.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn parse(text: &OsStr) -> Result<Self, Error> {
        match text.as_bytes().strip_prefix(b"uds=").filter(|path| !path.contains(&b',')) {
            Some(path) => socket(path).map(Self),
            None => Err(Error::VsockRecorded { value: text.to_string_lossy().into_owned() }),
        }
    }
}

fn socket(path: &[u8]) -> Result<PathBuf, Error> {
    if path.is_empty() {
        return Err(Error::EmptyPath { what: "the vsock socket" });
    }
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

/// A decimal number without a sign.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
