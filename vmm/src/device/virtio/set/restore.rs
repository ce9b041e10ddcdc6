//! The set of a machine that is restored: from its state and what the host has for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use snapshot_format::state::{
    VirtioBalloonState, VirtioBlkState, VirtioNetState, VirtioRngState, VirtioVsockState,
};

use super::super::balloon::{self, Valve};
use super::super::blk::{self, Disk, DiskId, ImageLayer, Overlay, Storage};
use super::super::net::{self, Tap};
use super::super::rng;
use super::super::transport::{self, Mmio};
use super::super::vsock::{self, Vsock};
use super::member::shared;
use super::{Error, VirtioSet, VirtioSetState, wiring};
use crate::config::{DeviceOverrides, NetId, OverlayDir};
use crate::lifecycle::Persist;
use crate::memory::GuestRam;

/// The state of every virtio device, with what it needs of the host.
#[derive(Debug)]
pub struct SavedParts {
    rng: Option<VirtioRngState>,
    balloon: Option<VirtioBalloonState>,
    disks: Vec<(DiskId, VirtioBlkState, Storage)>,
    nets: Vec<(NetId, VirtioNetState, Tap)>,
    vsock: Option<(VirtioVsockState, Vsock)>,
}

impl VirtioSet {
    /// The devices as they were saved, at rest. Their interrupts are quiet until [`Self::raise_pending`].
    ///
    /// # Errors
    /// A state is not one that such a device can have, or the process may open no more descriptors.
    pub fn restore(saved: SavedParts, memory: &GuestRam) -> Result<Self, Error> {
        let SavedParts { rng, balloon, disks, nets, vsock } = saved;
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
        let disks = disks.into_iter().map(|(id, state, storage)| {
            let section = blk::section(&id);
            let wiring = blk::Wiring { transport: wiring(memory)?, id, storage };
            Mmio::restore(state, wiring).map(shared).map_err(|source| Error::Restore { section, source })
        });
        let nets = nets.into_iter().map(|(id, state, tap)| {
            let section = net::section(&id);
            let wiring = net::Wiring { transport: wiring(memory)?, id, tap };
            Mmio::restore(state, wiring).map(shared).map_err(|source| Error::Restore { section, source })
        });
        let (disks, nets) = (disks.collect::<Result<_, _>>()?, nets.collect::<Result<_, _>>()?);
        let vsock = vsock.map(|(state, device)| {
            let refused = |source| Error::Restore { section: vsock::SECTION.to_owned(), source };
            let wiring = vsock::Wiring { transport: wiring(memory)?, device };
            Mmio::restore(state, wiring).map(shared).map_err(refused)
        });
        let set = Self { rng, balloon, disks, nets, vsock: vsock.transpose()? };
        let slots = set.slots();
        match slots.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::SameSlot { slot: pair[0].number() }),
            None => Ok(set),
        }
    }
}

impl VirtioSetState {
    /// Opens what the devices need of the host, or `overrides` in its place. Nothing of a machine has to exist. `layers`
    /// are what the image has of overlays, by the disks' ids, as long as their disks.
    ///
    /// # Errors
    /// A disk or a TAP is not there, busy or changed; `overrides` name a device that the image does not have; or the image
    /// names something that they do not trust it with, and then nothing was opened.
    pub fn open(
        self,
        mut layers: BTreeMap<String, ImageLayer>,
        overrides: &DeviceOverrides,
    ) -> Result<SavedParts, Error> {
        let outside = self.untrusted(overrides);
        let Self { rng, balloon, disks, nets, vsock } = self;
        let DeviceOverrides {
            disks: instead,
            overlay_dir: OverlayDir(overlay_dir),
            nets: other_taps,
            vsock: socket,
            trust,
        } = overrides;
        if vsock.is_none() && socket.is_some() {
            return Err(Error::NoVsock);
        }
        let unknown = |id: &str, present| Error::NoSuchDisk { id: id.to_owned(), present };
        check_named(instead.keys().map(DiskId::as_str), &disks, unknown)?;
        let unknown = |id: &str, present| Error::NoSuchNet { id: id.to_owned(), present };
        check_named(other_taps.keys().map(NetId::as_str), &nets, unknown)?;
        if !outside.is_empty() {
            return Err(Error::Untrusted { outside });
        }
        let open = |(name, state): (String, VirtioBlkState)| {
            let opened = DiskId::new(&name).map_err(|_| blk::Error::Id { id: name.clone() }).and_then(|id| {
                let disk = Disk::reopen(&state, instead.get(&id).map(PathBuf::as_path), trust)?;
                let storage = match state.overlay {
                    false => disk.into(),
                    true => Storage::Overlay(Overlay::new(disk, layers.remove(&name), overlay_dir)?),
                };
                Ok((id, state, storage))
            });
            opened.map_err(|source| Error::Disk { id: name, source })
        };
        let attach = |(name, state): (String, VirtioNetState)| {
            let attached = name.parse().map_err(|_| net::Error::Id { id: name.clone() }).and_then(|id| {
                let tap = Tap::reopen(&state, other_taps.get(&id))?;
                Ok((id, state, tap))
            });
            attached.map_err(|source| Error::Net { id: name, source })
        };
        let disks = disks.into_iter().map(open).collect::<Result<_, _>>()?;
        let nets = nets.into_iter().map(attach).collect::<Result<_, _>>()?;
        let vsock = vsock.map(|state| {
            let device = Vsock::reopen(&state, socket.as_deref()).map_err(Error::Vsock)?;
            Ok((state, device))
        });
        Ok(SavedParts { rng, balloon, disks, nets, vsock: vsock.transpose()? })
    }
}

/// Every override is for a device that there is; else `unknown` of the first that is not, and those that there are.
fn check_named<'a, State>(
    mut named: impl Iterator<Item = &'a str>,
    there: &BTreeMap<String, State>,
    unknown: impl FnOnce(&str, String) -> Error,
) -> Result<(), Error> {
    let Some(id) = named.find(|id| !there.contains_key(*id)) else { return Ok(()) };
    let present: Vec<String> = there.keys().map(|id| format!("`{id}`")).collect();
    Err(unknown(id, if present.is_empty() { "none".to_owned() } else { present.join(", ") }))
}
