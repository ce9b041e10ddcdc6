//! The set of a machine that is booted: what it is made of, and how it is built.

use std::sync::Arc;

use super::super::balloon::{Balloon, Valve};
use super::super::blk::{Blk, Disk, DiskId, Overlay, Storage};
use super::super::net::{self, Net, Tap};
use super::super::rate::RateLimit;
use super::super::rng::Rng;
use super::super::transport::{self, Mmio};
use super::super::vsock::{Host, Vsock};
use super::super::{SLOTS, Slot};
use super::member::shared;
use super::{Error, VirtioSet, wiring};
use crate::config::{DevicesConfig, DiskConfig, NetConfig, OverlayDir, RateLimitConfig, VsockConfig};
use crate::memory::GuestRam;

/// What a machine is to have, opened.
#[derive(Debug, Default)]
pub struct Parts {
    /// An entropy device.
    pub rng: bool,
    /// A balloon.
    pub balloon: bool,
    /// Disks, in the order in which the guest finds them. No two have one name.
    pub disks: Vec<(DiskId, Storage, RateLimitConfig)>,
    /// Network interfaces, in the order in which the guest finds them. No two have one name.
    pub nets: Vec<net::Parts>,
    /// The socket device, its host's socket listening.
    pub vsock: Option<Vsock>,
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
        let DevicesConfig { disks, overlay_dir: OverlayDir(overlay_dir), rng, balloon, nets, vsock } = config;
        let open = |disk: &DiskConfig| {
            let DiskConfig { id, path, read_only, overlay, is_raw, limit } = disk;
            let opened = Disk::open(path, *read_only || *overlay).and_then(|disk| {
                let disk = if *is_raw { disk } else { disk.unless_container()? };
                let over = |disk| Overlay::new(disk, None, overlay_dir).map(Storage::Overlay);
                if *overlay { over(disk) } else { Ok(disk.into()) }
            });
            let failed = |source| Error::Disk { id: id.as_str().to_owned(), source };
            Ok((id.clone(), opened.map_err(failed)?, *limit))
        };
        Ok(Self {
            rng: *rng,
            balloon: *balloon,
            disks: disks.iter().map(open).collect::<Result<_, _>>()?,
            nets: nets.iter().map(attach).collect::<Result<_, _>>()?,
            vsock: vsock.as_ref().map(listen).transpose()?,
        })
    }
}

fn listen(config: &VsockConfig) -> Result<Vsock, Error> {
    let VsockConfig { cid, path, ready } = config;
    let host = Host::listen(path).map_err(Error::Vsock)?;
    Vsock::new(*cid, host, *ready).map_err(Error::Vsock)
}

fn attach(config: &NetConfig) -> Result<net::Parts, Error> {
    let NetConfig { id, tap, mac, rx_limit, tx_limit } = config;
    let failed = |source| Error::Net { id: id.as_str().to_owned(), source };
    Ok(net::Parts {
        id: id.clone(),
        tap: Tap::open(tap).map_err(failed)?,
        mac: *mac,
        rx_limit: *rx_limit,
        tx_limit: *tx_limit,
    })
}

impl VirtioSet {
    /// The devices as they come out of reset: the disks in the first slots, in their order, then the others.
    ///
    /// # Errors
    /// There are too many, or the process may open no more descriptors.
    pub fn build(parts: Parts, memory: &GuestRam) -> Result<Self, Error> {
        let Parts { rng, balloon, disks, nets, vsock } = parts;
        let single = [rng, balloon, vsock.is_some()];
        let count = disks.len() + nets.len() + single.into_iter().filter(|has| *has).count();
        let mut slots = (0..SLOTS).filter_map(Slot::new);
        let mut place = || slots.next().ok_or(Error::TooMany { count });
        let descriptor = |e| Error::SetUp(transport::Error::EventFd(e));
        let disks = disks.into_iter().map(|(id, disk, limit)| {
            let limit = RateLimit::new(&limit).map_err(descriptor)?;
            let disk = Mmio::new(place()?, Blk::new(id, disk).limited(limit), wiring(memory)?);
            disk.map(shared).map_err(Error::SetUp)
        });
        let disks = disks.collect::<Result<_, _>>()?;
        let rng = rng.then(|| Mmio::new(place()?, Rng::default(), wiring(memory)?).map_err(Error::SetUp));
        let rng = rng.transpose()?.map(shared);
        let balloon = balloon.then(|| {
            let valve = Valve::new().map_err(descriptor)?;
            let balloon = Mmio::new(place()?, Balloon::new(Arc::clone(&valve)), wiring(memory)?);
            Ok((shared(balloon.map_err(Error::SetUp)?), valve))
        });
        let balloon = balloon.transpose()?;
        let nets = nets.into_iter().map(|parts| {
            let net = Net::new(parts).map_err(descriptor)?;
            Mmio::new(place()?, net, wiring(memory)?).map(shared).map_err(Error::SetUp)
        });
        let nets = nets.collect::<Result<_, _>>()?;
        let vsock = vsock.map(|vsock| Mmio::new(place()?, vsock, wiring(memory)?).map_err(Error::SetUp));
        Ok(Self { rng, balloon, disks, nets, vsock: vsock.transpose()?.map(shared) })
    }
}
