//! The set of a machine that is booted: what it is made of, and how it is built.

use std::sync::Arc;

use super::super::balloon::{Balloon, Valve};
use super::super::blk::{Blk, Disk, DiskId};
use super::super::rng::Rng;
use super::super::transport::{self, Mmio};
use super::super::{SLOTS, Slot};
use super::member::shared;
use super::{Error, VirtioSet, wiring};
use crate::config::{DevicesConfig, DiskConfig};
use crate::memory::GuestRam;

/// What a machine is to have, opened.
#[derive(Debug, Default)]
pub struct Parts {
    /// An entropy device.
    pub rng: bool,
    /// A balloon.
    pub balloon: bool,
    /// Disks, in the order in which the guest finds them. No two have one name.
    pub disks: Vec<(DiskId, Disk)>,
}

impl Parts {
    /// Opens what the devices need of the host. Nothing of a machine has to exist.
    ///
    /// # Errors
    /// Something is not there, cannot be used, or is in use; or there are more devices than places for them.
    pub fn open(config: &DevicesConfig) -> Result<Self, Error> {
        let count = config.count();
        if count > SLOTS.into() {
            return Err(Error::TooMany { count });
        }
        let DevicesConfig { disks, rng, balloon } = config;
        let open = |disk: &DiskConfig| {
            let DiskConfig { id, path, read_only } = disk;
            let failed = |source| Error::Disk { id: id.as_str().to_owned(), source };
            Ok((id.clone(), Disk::open(path, *read_only).map_err(failed)?))
        };
        Ok(Self { rng: *rng, balloon: *balloon, disks: disks.iter().map(open).collect::<Result<_, _>>()? })
    }
}

impl VirtioSet {
    /// The devices as they come out of reset: the disks in the first slots, in their order, then the others.
    ///
    /// # Errors
    /// There are too many, or the process may open no more descriptors.
    pub fn build(parts: Parts, memory: &GuestRam) -> Result<Self, Error> {
        let Parts { rng, balloon, disks } = parts;
        let count = disks.len() + usize::from(rng) + usize::from(balloon);
        let mut slots = (0..SLOTS).filter_map(Slot::new);
        let mut place = || slots.next().ok_or(Error::TooMany { count });
        let disks = disks.into_iter().map(|(id, disk)| {
            let disk = Mmio::new(place()?, Blk::new(id, disk), wiring(memory)?);
            disk.map(shared).map_err(Error::SetUp)
        });
        let disks = disks.collect::<Result<_, _>>()?;
        let rng = rng.then(|| Mmio::new(place()?, Rng::default(), wiring(memory)?).map_err(Error::SetUp));
        let rng = rng.transpose()?.map(shared);
        let balloon = balloon.then(|| {
            let valve = Valve::new().map_err(|e| Error::SetUp(transport::Error::EventFd(e)))?;
            let balloon = Mmio::new(place()?, Balloon::new(Arc::clone(&valve)), wiring(memory)?);
            Ok((shared(balloon.map_err(Error::SetUp)?), valve))
        });
        Ok(Self { rng, balloon: balloon.transpose()?, disks })
    }
}
