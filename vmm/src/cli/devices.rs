//! The options for virtio devices: what a guest has, and what is put in the place of what an image has.

#![allow(rustdoc::broken_intra_doc_links, reason = "brackets in help texts are no links")]

use std::path::PathBuf;

use clap::Args;
use vmm::config::{
    DeviceOverrides, DevicesConfig, DiskConfig, DiskPath, Error, NetConfig, NetOverride, OverlayDir,
    PathTrust, VsockConfig, VsockPath,
};

use super::value;

/// The virtio devices of a guest, for `boot` and `bake`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Devices")]
pub(super) struct DeviceArgs {
    /// A disk: a name of yours, which is its serial number in the guest, and a raw file or block device, which one
    /// guest at a time may write to. Options: `readonly`; `overlay`, with which nobody writes to it, and any number of
    /// guests may have it: what the guest writes is part of its images, and lost with it; `format=raw` takes a file that
    /// begins like a qcow2 or another container as it is; `bw=RATE` and `iops=RATE` limit what the guest may ask of it, in
    /// bytes and in requests. A RATE is AMOUNT[/TIME][+BURST], for example 100M/1s+1G [repeatable; default: none]
    #[arg(long, value_name = "ID=PATH[,OPTION..]", value_parser = value::disk())]
    disk: Vec<DiskConfig>,
    #[command(flatten)]
    overlay_dir: OverlayDirArg,
    /// An entropy device, which gives the guest the host's random numbers
    #[arg(long)]
    rng: bool,
    /// A balloon: the guest gives memory that it does not need back to the host, on its own and on request
    #[arg(long)]
    balloon: bool,
    /// A network interface: a name of yours, and a TAP interface that exists, for this VM alone. Options:
    /// `mac=XX:XX:XX:XX:XX:XX`, else the guest makes an address up; `rx-bw=RATE`, `rx-ops=RATE`, `tx-bw=RATE` and
    /// `tx-ops=RATE` limit what it may receive and send, in bytes and in frames [repeatable; default: none]
    #[arg(
        long,
        value_name = "ID=tap:NAME[,OPTION..]",
        value_parser = value::text::<NetConfig>
    )]
    net: Vec<NetConfig>,
    /// Sockets between the guest, whose address is N (3 to 4294967294), and the host. A host program connects to PATH,
    /// which is made, and says `CONNECT PORT`; what the guest sends to port P of the host arrives at PATH_P
    #[arg(long, value_name = "cid=N,uds=PATH", value_parser = value::vsock())]
    vsock: Option<VsockConfig>,
}

impl DeviceArgs {
    pub(super) fn into_config(self) -> Result<DevicesConfig, Error> {
        let Self { disk, overlay_dir, rng, balloon, net, vsock } = self;
        DevicesConfig::new(disk, overlay_dir.into(), rng, balloon, net, vsock)
    }
}

/// Where overlays are kept.
#[derive(Clone, Debug, Default, Args)]
struct OverlayDirArg {
    /// Directory for what the guest writes to `overlay` disks, in files without names that go when the VM ends
    /// [default: the environment variable TMPDIR, else /var/tmp]
    #[arg(long, value_name = "DIR")]
    overlay_dir: Option<PathBuf>,
}

impl From<OverlayDirArg> for OverlayDir {
    fn from(arg: OverlayDirArg) -> Self {
        let OverlayDirArg { overlay_dir } = arg;
        let set = || std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        overlay_dir.or_else(set).map_or_else(Self::default, Self)
    }
}

/// What the devices of an image use of the host, for `restore`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "In place of what the image records")]
pub(super) struct OverrideArgs {
    /// The file or block device for a disk, or for the base of an overlay, as long as the one of the image; its
    /// contents must fit the guest's memory [repeatable; default: the recorded file, which must not have changed since,
    /// if --disk-root or --trust-paths allows it]
    #[arg(long, value_name = "ID=PATH", value_parser = value::disk_path())]
    disk: Vec<DiskPath>,
    /// The TAP for a network interface. Either way the guest is asked to announce itself [repeatable; default: the
    /// recorded TAP, if --trust-paths allows it]
    #[arg(long, value_name = "ID=tap:NAME", value_parser = value::text::<NetOverride>)]
    net: Vec<NetOverride>,
    /// The path for the host's socket of the vsock device: each clone that runs needs one of its own [default:
    /// the recorded path, if --trust-paths allows it]
    #[arg(long, value_name = "uds=PATH", value_parser = value::vsock_path())]
    vsock: Option<VsockPath>,
    /// Use the disks, TAPs and sockets that the image records: for an image whose maker may choose files of yours for
    /// its guest to read and write [default: each has to be named]
    #[arg(long)]
    trust_paths: bool,
    /// Use the disks that the image records if they lie beneath this directory, without a link that leads out of it
    /// [repeatable; default: each has to be named]
    #[arg(long, value_name = "DIR")]
    disk_root: Vec<PathBuf>,
    #[command(flatten)]
    overlay_dir: OverlayDirArg,
}

impl OverrideArgs {
    pub(super) fn into_config(self) -> Result<DeviceOverrides, Error> {
        let Self { disk, overlay_dir, net, vsock, trust_paths, disk_root } = self;
        let trust = PathTrust::new(trust_paths, disk_root)?;
        DeviceOverrides::new(disk, overlay_dir.into(), net, vsock, trust)
    }
}
