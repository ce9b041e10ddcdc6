//! The options for virtio devices: what a guest has, and what is put in the place of what an image has.

use clap::Args;
use vmm::config::{DeviceOverrides, DevicesConfig, DiskConfig, DiskPath, Error};

use super::value;

/// The virtio devices of a guest, for `boot` and `bake`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Devices")]
pub(super) struct DeviceArgs {
    /// A disk: a name of yours, which is its serial number in the guest, and a raw file or block device. Never give
    /// one that can be written to two guests [repeatable; default: none]
    #[arg(long, value_name = "ID=PATH[,readonly]", value_parser = value::disk())]
    disk: Vec<DiskConfig>,
    /// An entropy device, which gives the guest the host's random numbers
    #[arg(long)]
    rng: bool,
    /// A balloon: the guest gives memory that it does not need back to the host, on its own and on request
    #[arg(long)]
    balloon: bool,
}

impl DeviceArgs {
    pub(super) fn into_config(self) -> Result<DevicesConfig, Error> {
        let Self { disk, rng, balloon } = self;
        DevicesConfig::new(disk, rng, balloon)
    }
}

/// What the devices of an image use of the host, for `restore`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "In place of what the image records")]
pub(super) struct OverrideArgs {
    /// Another file or block device for a disk, as long as the one of the image, whose contents must fit the guest's
    /// memory [repeatable; default: the recorded file, which must not have changed since]
    #[arg(long, value_name = "ID=PATH", value_parser = value::disk_path())]
    disk: Vec<DiskPath>,
}

impl OverrideArgs {
    pub(super) fn into_config(self) -> Result<DeviceOverrides, Error> {
        let Self { disk } = self;
        DeviceOverrides::new(disk)
    }
}
