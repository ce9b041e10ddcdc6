//! The state of the set: saved, and which section of an image each device's lies in.

use std::collections::BTreeMap;

use snapshot_format::state::{VirtioBalloonState, VirtioBlkState, VirtioRngState};
use snapshot_format::{StateReader, StateWriter};

use super::super::balloon;
use super::super::blk::{self, Blk};
use super::super::rng;
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
}

impl VirtioSet {
    /// The guest-visible state of every device.
    #[must_use]
    pub fn save(&self, at_rest: &Quiesced<'_>) -> VirtioSetState {
        let Self { rng, balloon, disks } = self;
        let disk = |disk: &Shared<Blk>| {
            let disk = lock(disk);
            let id =
                disk.device().expect("a machine at rest has quiesced its devices").id().as_str().to_owned();
            (id, disk.save(at_rest))
        };
        VirtioSetState {
            rng: rng.as_ref().map(|rng| lock(rng).save(at_rest)),
            balloon: balloon.as_ref().map(|(balloon, _)| lock(balloon).save(at_rest)),
            disks: disks.iter().map(disk).collect(),
        }
    }
}

impl VirtioSetState {
    /// Adds every device's section.
    ///
    /// # Errors
    /// As [`StateWriter::add`].
    pub fn write(&self, image: &mut StateWriter) -> Result<(), snapshot_format::Error> {
        let Self { rng, balloon, disks } = self;
        if let Some(rng) = rng {
            image.add(rng::SECTION, rng)?;
        }
        if let Some(balloon) = balloon {
            image.add(balloon::SECTION, balloon)?;
        }
        disks.iter().try_for_each(|(id, disk)| image.add(&format!("{}:{id}", blk::KIND), disk))
    }

    /// Takes the section of every device that there is.
    ///
    /// # Errors
    /// As [`StateReader::take`].
    pub fn read(image: &mut StateReader<'_>) -> Result<Self, snapshot_format::Error> {
        let id = |name: &str| Some(name.strip_prefix(blk::KIND)?.strip_prefix(':')?.to_owned());
        let ids: Vec<String> = image.sections().iter().filter_map(|entry| id(&entry.name)).collect();
        let rng = image.contains(rng::SECTION).then(|| image.take(rng::SECTION)).transpose()?;
        let balloon = image.contains(balloon::SECTION).then(|| image.take(balloon::SECTION)).transpose()?;
        let disk = |id: String| {
            let state = image.take(&format!("{}:{id}", blk::KIND))?;
            Ok((id, state))
        };
        Ok(Self { rng, balloon, disks: ids.into_iter().map(disk).collect::<Result<_, _>>()? })
    }
}
