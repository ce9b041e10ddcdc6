//! Which virtio devices a guest has, and what is put in the place of those that an image has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{DiskConfig, DiskId, DiskPath, Error};

/// The virtio devices of a guest that is booted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicesConfig {
    /// Disks, in the order in which the guest finds them. No two have one id.
    pub disks: Vec<DiskConfig>,
    /// Whether it has an entropy device.
    pub rng: bool,
    /// Whether it has a balloon.
    pub balloon: bool,
}

impl DevicesConfig {
    /// Takes what was typed.
    ///
    /// # Errors
    /// Two devices have one name.
    pub fn new(disks: Vec<DiskConfig>, rng: bool, balloon: bool) -> Result<Self, Error> {
        unique(disks.iter().map(|disk| &disk.id))?;
        Ok(Self { disks, rng, balloon })
    }

    /// How many devices that makes.
    #[must_use]
    pub fn count(&self) -> usize {
        let Self { disks, rng, balloon } = self;
        disks.len() + usize::from(*rng) + usize::from(*balloon)
    }
}

/// What a restored guest's devices use of the host in place of what the image says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceOverrides {
    /// Files for disks.
    pub disks: BTreeMap<DiskId, PathBuf>,
}

impl DeviceOverrides {
    /// Takes what was typed.
    ///
    /// # Errors
    /// A device is named twice.
    pub fn new(disks: Vec<DiskPath>) -> Result<Self, Error> {
        unique(disks.iter().map(|disk| &disk.id))?;
        Ok(Self { disks: disks.into_iter().map(|DiskPath { id, path }| (id, path)).collect() })
    }
}

fn unique<'a>(ids: impl Iterator<Item = &'a DiskId>) -> Result<(), Error> {
    let mut seen = std::collections::BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(Error::DiskTwice { id: id.as_str().to_owned() });
        }
    }
    Ok(())
}
