//! A paused machine to image files.
//!
//! Two halves. [`take`] needs the guest at rest and does only what cannot wait: the state of vCPUs, devices and
//! clock, and the pages that the guest may change. [`Taken::commit`] does the rest while the guest may run again:
//! what the image shares with the one the guest was restored from, the index, the checksums, the disk, the name.
//!
//! Whatever fails, no half image is visible and the guest is as it was: the directory appears by one rename at the
//! very end, and until then everything lies in a temporary one that an error or a drop removes.

mod commit;
mod disks;
#[cfg(test)]
mod model_test;
mod pages;
mod state;

use std::path::{Path, PathBuf};

use snapshot_format::{ImageWriter, dir};

use crate::device::virtio::DiskLeftover;
use crate::machine::PausedVm;

pub use commit::Summary;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image directory.
    #[error("cannot write image `{}`", path.display())]
    Directory {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: dir::Error,
    },
    /// Whoever asked does not want it any more.
    #[error("told to end; image `{}` was not written", path.display())]
    Cancelled {
        /// The image.
        path: PathBuf,
    },
    /// A vCPU could not be read.
    #[error("cannot save a vCPU")]
    Vcpu(#[source] crate::vcpu::Error),
    /// The chipset could not be read.
    #[error("cannot save the chipset")]
    Chipset(#[source] crate::irq::Error),
    /// The clock could not be read.
    #[error("cannot save the clock")]
    Clock(#[source] crate::clock::Error),
    /// Guest memory could not be examined.
    #[error("cannot save guest memory")]
    Memory(#[source] crate::memory::Error),
    /// Guest memory could not be read.
    #[error("cannot read guest memory at {gpa:#x}")]
    ReadMemory {
        /// Guest-physical address.
        gpa: u64,
        /// Why.
        #[source]
        source: vm_memory::GuestMemoryError,
    },
    /// A page could not be written.
    #[error("cannot write guest memory to image `{}`", path.display())]
    WriteMemory {
        /// The image.
        path: PathBuf,
        /// Why: "no space left on device", for example.
        #[source]
        source: std::io::Error,
    },
    /// The memory of the image that the guest was restored from could not be read.
    #[error("cannot read the memory of the image that this guest was restored from")]
    ReadBase(#[source] std::io::Error),
    /// The memory of the image that the guest was restored from is not what it was.
    #[error("the image that this guest was restored from has changed under it")]
    Base(#[source] snapshot_format::pages::Error),
    /// An overlay has no room for what the guest will write from here on.
    #[error("cannot save the disks")]
    Disks(#[source] crate::device::virtio::Error),
    /// What the guest wrote to a disk could not be brought there.
    #[error("cannot flush disk `{id}`")]
    FlushDisk {
        /// The disk.
        id: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What the guest wrote over a base could not be read.
    #[error("cannot read what the guest wrote to disk `{id}`")]
    ReadOverlay {
        /// The disk.
        id: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The page index is not sound.
    #[error("cannot index guest memory")]
    Index(#[source] snapshot_format::pages::Error),
    /// The state could not be encoded.
    #[error("cannot encode the state")]
    Encode(#[source] snapshot_format::Error),
}

/// Says whether to give up; asked between pieces of work of about a millisecond.
pub type Cancelled<'a> = &'a dyn Fn() -> bool;

impl Error {
    /// What somebody at a terminal can do about it: images are never overwritten, and a full disk is never half an
    /// image.
    pub fn hint(&self) -> Option<&'static str> {
        const FULL: &str = "make room and try again; nothing was left behind";
        match self {
            Self::Directory { source: dir::Error::Exists { .. }, .. } => {
                Some("images are never overwritten: give another --out, or remove it first")
            }
            Self::Directory { source: dir::Error::WithinImage { .. }, .. } => {
                Some("give --out a name beside the other image")
            }
            Self::Directory { source, .. } if source.is_disk_full() => Some(FULL),
            Self::Directory { source: dir::Error::Create { .. } | dir::Error::BadTarget { .. }, .. } => {
                Some("give --out a new name in a directory that exists and that you may write to")
            }
            Self::Base(_) => {
                Some("the guest has lost memory: end it, and never modify an image that is in use")
            }
            Self::WriteMemory { source, .. } if dir::is_disk_full(source) => Some(FULL),
            _ => None,
        }
    }
}

/// What was taken from a machine at rest, not yet an image. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Taken {
    out: PathBuf,
    writer: ImageWriter,
    state: state::Collected,
    pages: pages::Copied,
    disks: Vec<DiskLeftover>,
    haste: Haste,
}

/// Refuses early what [`take`] would refuse late: a target that exists, or that cannot be written beside.
pub fn check_target(out: &Path) -> Result<(), Error> {
    commit::open(out).map(drop)
}

/// Whether a guest waits for the end of [`take`] to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// It does: its pause is what counts.
    GuestWaits,
    /// It does not: what counts is how the image can be read.
    NobodyWaits,
}

/// Takes what only a guest at rest can give.
pub fn take(vm: &PausedVm, out: &Path, haste: Haste, cancelled: Cancelled<'_>) -> Result<Taken, Error> {
    let at_rest = vm.quiesced();
    let mut writer = commit::open(out)?;
    vm.tell_of_standstill();
    let state = state::collect(vm, &at_rest)?;
    let memory = commit::memory_file(&mut writer, out)?;
    let target = pages::Target { out, cancelled };
    let pages = pages::copy_own(vm.memory(), &at_rest, memory, haste, target)?;
    // Last, because from here on there is a further layer, whatever becomes of the image.
    let disks = vm.virtio().freeze(&at_rest).map_err(Error::Disks)?;
    Ok(Taken { out: out.to_owned(), writer, state, pages, disks, haste })
}

impl Taken {
    /// Makes an image of it. The guest may run.
    pub fn commit(self, cancelled: Cancelled<'_>) -> Result<Summary, Error> {
        let Self { out, mut writer, state, mut pages, disks, haste } = self;
        let target = pages::Target { out: &out, cancelled };
        pages.copy_base(target)?;
        let (index, summary) = pages.finish()?;
        let overlays = disks::finish(&disks, &mut writer, target)?;
        let bytes = state.encode(&index, &overlays)?;
        target.go_on()?;
        commit::commit(writer, &bytes, &out)?;
        // The image is there; this is for a guest that runs on.
        if haste == Haste::GuestWaits {
            disks::merge(&disks, target);
        }
        Ok(summary)
    }
}
