//! A disk to and from its section.

use std::ffi::OsStr;
use std::fs::FileType;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use snapshot_format::codec::Blob;
use snapshot_format::state::VirtioBlkState;

use super::{Blk, Disk, DiskId, Error, SECTOR, Storage, beneath};
use crate::config::PathTrust;
use crate::device::virtio::rate::RateLimit;
use crate::device::virtio::transport::{self, Mmio};
use crate::lifecycle::{Persist, Quiesced};

/// The name of a disk's section.
pub fn section(id: &DiskId) -> String {
    format!("{KIND}:{}", id.as_str())
}

/// The part before the colon.
pub(crate) const KIND: &str = "virtio-blk";

/// A restored disk's connections.
#[derive(Debug)]
pub struct Wiring {
    /// The transport's.
    pub transport: transport::Wiring,
    /// What the disk is called: the instance in its section's name.
    pub id: DiskId,
    /// What lies behind it: over what [`Disk::reopen`] gives.
    pub storage: Storage,
}

impl Persist for Mmio<Blk> {
    type State = VirtioBlkState;
    type Wiring = Wiring;
    type Error = transport::Error;

    fn save(&self, at_rest: &Quiesced<'_>) -> VirtioBlkState {
        let transport = self.save_transport(at_rest);
        let blk = self.device().expect("a machine at rest has quiesced its devices");
        let Blk { id: _, storage, engine: _, failure_logged: _, limit, config: _, write_back: _ } = blk;
        let disk = storage.disk();
        VirtioBlkState {
            transport,
            path: Blob(disk.path().as_os_str().as_bytes().to_vec()),
            read_only: storage.is_read_only(),
            overlay: matches!(storage, Storage::Overlay(_)),
            len: disk.len(),
            modified_ns: disk.modified_ns().unwrap_or(0),
            limit: limit.save(),
        }
    }

    fn restore(state: VirtioBlkState, wiring: Wiring) -> Result<Self, transport::Error> {
        // The rest of the state was compared with the disk when it was opened.
        let VirtioBlkState { transport, path: _, read_only: _, overlay: _, len: _, modified_ns: _, limit } =
            state;
        let Wiring { transport: wiring, id, storage } = wiring;
        let blk = Blk::new(id, storage).limited(RateLimit::restore(&limit)?);
        Self::restore_transport(&transport, blk, wiring)
    }
}

impl Disk {
    /// The disk of an image, or the base of its overlay: the same file, which must not have changed since; or `instead`,
    /// whose contents are the user's responsibility and which must be as long.
    ///
    /// The recorded path is the choice of whoever wrote the image, and is used only as `trust` says. A block device is
    /// never opened on the image's word alone: it cannot be told from one that has changed, and to open and close one
    /// for writing is not without effect (udev(7) probes it again).
    ///
    /// # Errors
    /// As [`Disk::open`]; or it was changed, or nobody trusts the image with it.
    pub fn reopen(saved: &VirtioBlkState, instead: Option<&Path>, trust: &PathTrust) -> Result<Self, Error> {
        let VirtioBlkState { transport: _, path: Blob(path), read_only, overlay, len, modified_ns, limit: _ } =
            saved;
        let recorded = Path::new(OsStr::from_bytes(path));
        let is_both = *read_only && *overlay;
        if is_both || !recorded.is_absolute() || path.contains(&0) || *len == 0 || !len.is_multiple_of(SECTOR)
        {
            return Err(Error::Record { path: recorded.to_owned() });
        }
        let read_only = *read_only || *overlay;
        let disk = match instead {
            Some(named) => Self::open(named, read_only)?,
            None => Self::open_recorded(recorded, read_only, trust)?,
        };
        if disk.len() != *len {
            return Err(Error::Resized { path: disk.path().to_owned(), len: disk.len(), saved: *len });
        }
        if instead.is_some() { Ok(disk) } else { disk.unmodified_since(*modified_ns) }
    }

    fn open_recorded(path: &Path, read_only: bool, trust: &PathTrust) -> Result<Self, Error> {
        let tells = |kind: FileType| match kind.is_file() {
            true => Ok(()),
            false => Err(Error::Untold { path: path.to_owned() }),
        };
        match trust {
            PathTrust::Named => Err(Error::Untrusted { path: path.to_owned() }),
            PathTrust::All => Self::open_if(path, read_only, tells),
            PathTrust::Beneath(roots) => {
                let (file, kind) = beneath::open(roots, path, read_only)?;
                Self::opened(file, kind, path, read_only)
            }
        }
    }

    /// This disk, if it tells that it was last modified at `saved_ns`.
    pub(super) fn unmodified_since(self, saved_ns: i64) -> Result<Self, Error> {
        match self.modified_ns() {
            Some(now) if now == saved_ns => Ok(self),
            Some(_) => Err(Error::Modified { path: self.path().to_owned() }),
            None => Err(Error::Untold { path: self.path().to_owned() }),
        }
    }
}
