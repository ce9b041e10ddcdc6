//! The state of the set: saved, and which section of an image each device's lies in.

use std::collections::BTreeMap;

use snapshot_format::state::{
    VirtioBalloonState, VirtioBlkState, VirtioNetState, VirtioRngState, VirtioVsockState,
};
use snapshot_format::{Saved, StateReader, StateWriter};

use super::super::balloon;
use super::super::blk::{self, Blk};
use super::super::net::{self, Net};
use super::super::rng;
use super::super::vsock;
use super::VirtioSet;
use super::member::{Shared, lock};
use crate::lifecycle::{Persist, Quiesced};

/// The state of every virtio device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtioSetState {
    /// Section [`rng::SECTION`], if there is one.
    pub rng: Option<VirtioRngState>,
    /// Section [`balloon::SECTION`], if there is one.
    pub balloon: Option<VirtioBalloonState>,
    /// Sections `virtio-blk:ID`, by their ids.
    pub disks: BTreeMap<String, VirtioBlkState>,
    /// Sections `virtio-net:ID`, by their ids.
    pub nets: BTreeMap<String, VirtioNetState>,
    /// Section [`vsock::SECTION`], if there is one.
    pub vsock: Option<VirtioVsockState>,
}

impl VirtioSet {
    /// The guest-visible state of every device.
    #[must_use]
    pub fn save(&self, at_rest: &Quiesced<'_>) -> VirtioSetState {
        let Self { rng, balloon, disks, nets, vsock } = self;
        let disk = |disk: &Shared<Blk>| {
            let disk = lock(disk);
            let id =
                disk.device().expect("a machine at rest has quiesced its devices").id().as_str().to_owned();
            (id, disk.save(at_rest))
        };
        let net = |net: &Shared<Net>| {
            let net = lock(net);
            let id =
                net.device().expect("a machine at rest has quiesced its devices").id().as_str().to_owned();
            (id, net.save(at_rest))
        };
        VirtioSetState {
            rng: rng.as_ref().map(|rng| lock(rng).save(at_rest)),
            balloon: balloon.as_ref().map(|(balloon, _)| lock(balloon).save(at_rest)),
            disks: disks.iter().map(disk).collect(),
            nets: nets.iter().map(net).collect(),
            vsock: vsock.as_ref().map(|vsock| lock(vsock).save(at_rest)),
        }
    }
}

impl VirtioSetState {
    /// Adds every device's section.
    ///
    /// # Errors
    /// As [`StateWriter::add`].
    pub fn write(&self, image: &mut StateWriter) -> Result<(), snapshot_format::Error> {
        let Self { rng, balloon, disks, nets, vsock } = self;
        if let Some(rng) = rng {
            image.add(rng::SECTION, rng)?;
        }
        if let Some(balloon) = balloon {
            image.add(balloon::SECTION, balloon)?;
        }
        disks.iter().try_for_each(|(id, disk)| image.add(&format!("{}:{id}", blk::KIND), disk))?;
        nets.iter().try_for_each(|(id, net)| image.add(&format!("{}:{id}", net::KIND), net))?;
        vsock.iter().try_for_each(|vsock| image.add(vsock::SECTION, vsock))
    }

    /// The overlays that there are, by the ids of their disks, with the disks' lengths.
    pub fn overlays(&self) -> impl Iterator<Item = (&str, u64)> {
        let overlays = self.disks.iter().filter(|(_, disk)| disk.overlay);
        overlays.map(|(id, disk)| (id.as_str(), disk.len))
    }

    /// Takes the section of every device that there is.
    ///
    /// # Errors
    /// As [`StateReader::take`].
    pub fn read(image: &mut StateReader<'_>) -> Result<Self, snapshot_format::Error> {
        let rng = image.contains(rng::SECTION).then(|| image.take(rng::SECTION)).transpose()?;
        let balloon = image.contains(balloon::SECTION).then(|| image.take(balloon::SECTION)).transpose()?;
        let vsock = image.contains(vsock::SECTION).then(|| image.take(vsock::SECTION)).transpose()?;
        let (disks, nets) = (take_all(image, blk::KIND)?, take_all(image, net::KIND)?);
        Ok(Self { rng, balloon, disks, nets, vsock })
    }
}

/// Every section of the kind, by what follows the colon.
fn take_all<S: Saved>(
    image: &mut StateReader<'_>,
    kind: &str,
) -> Result<BTreeMap<String, S>, snapshot_format::Error> {
    let id = |name: &str| Some(name.strip_prefix(kind)?.strip_prefix(':')?.to_owned());
    let ids: Vec<String> = image.sections().iter().filter_map(|entry| id(&entry.name)).collect();
    ids.into_iter().map(|id| image.take(&format!("{kind}:{id}")).map(|state| (id, state))).collect()
}
