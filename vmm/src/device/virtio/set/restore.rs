//! The set of a machine that is restored: from its state and what the host has for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use snapshot_format::state::{VirtioBalloonState, VirtioBlkState, VirtioRngState};

use super::super::balloon::{self, Valve};
use super::super::blk::{self, Disk, DiskId};
use super::super::rng;
use super::super::transport::{self, Mmio};
use super::member::shared;
use super::{Error, VirtioSet, VirtioSetState, wiring};
use crate::config::DeviceOverrides;
use crate::lifecycle::Persist;
use crate::memory::GuestRam;

/// The state of every virtio device, with what it needs of the host.
#[derive(Debug)]
pub struct SavedParts {
    rng: Option<VirtioRngState>,
    balloon: Option<VirtioBalloonState>,
    disks: Vec<(DiskId, VirtioBlkState, Disk)>,
}

impl VirtioSet {
    /// The devices as they were saved, at rest. Their interrupts are quiet until [`Self::raise_pending`].
    ///
    /// # Errors
    /// A state is not one that such a device can have, or the process may open no more descriptors.
    pub fn restore(saved: SavedParts, memory: &GuestRam) -> Result<Self, Error> {
        let SavedParts { rng, balloon, disks } = saved;
        let rng = rng.map(|state| {
            let refused = |source| Error::Restore { section: rng::SECTION.to_owned(), source };
            Mmio::restore(state, wiring(memory)?).map(shared).map_err(refused)
        });
        let rng = rng.transpose()?;
        let balloon = balloon.map(|state| {
            let valve = Valve::new().map_err(|e| Error::SetUp(transport::Error::EventFd(e)))?;
            let wiring = balloon::Wiring { transport: wiring(memory)?, valve: Arc::clone(&valve) };
            let refused = |source| Error::Restore { section: balloon::SECTION.to_owned(), source };
            Mmio::restore(state, wiring).map(|balloon| (shared(balloon), valve)).map_err(refused)
        });
        let balloon = balloon.transpose()?;
        let disks = disks.into_iter().map(|(id, state, disk)| {
            let section = blk::section(&id);
            let wiring = blk::Wiring { transport: wiring(memory)?, id, disk };
            Mmio::restore(state, wiring).map(shared).map_err(|source| Error::Restore { section, source })
        });
        let set = Self { rng, balloon, disks: disks.collect::<Result<_, _>>()? };
        let slots = set.slots();
        match slots.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::SameSlot { slot: pair[0].number() }),
            None => Ok(set),
        }
    }
}

impl VirtioSetState {
    /// Opens what the devices need of the host, or `overrides` in its place. Nothing of a machine has to exist.
    ///
    /// # Errors
    /// A disk is not there, busy or changed; or `overrides` name a device that the image does not have.
    pub fn open(self, overrides: &DeviceOverrides) -> Result<SavedParts, Error> {
        let Self { rng, balloon, disks } = self;
        let DeviceOverrides { disks: instead } = overrides;
        check_disks(instead.keys(), &disks)?;
        let open = |(name, state): (String, VirtioBlkState)| {
            let opened = DiskId::new(&name).map_err(|_| blk::Error::Id { id: name.clone() }).and_then(|id| {
                let disk = Disk::reopen(&state, instead.get(&id).map(PathBuf::as_path))?;
                Ok((id, state, disk))
            });
            opened.map_err(|source| Error::Disk { id: name, source })
        };
        Ok(SavedParts { rng, balloon, disks: disks.into_iter().map(open).collect::<Result<_, _>>()? })
    }
}

/// Every override is for a disk that there is.
fn check_disks<'a>(
    mut named: impl Iterator<Item = &'a DiskId>,
    there: &BTreeMap<String, VirtioBlkState>,
) -> Result<(), Error> {
    let Some(unknown) = named.find(|id| !there.contains_key(id.as_str())) else { return Ok(()) };
    let present: Vec<String> = there.keys().map(|id| format!("`{id}`")).collect();
    let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
    Err(Error::NoSuchDisk { id: unknown.as_str().to_owned(), present })
}
