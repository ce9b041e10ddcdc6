//! Which virtio devices a guest has, and what is put in the place of those that an image has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{
    DiskConfig, DiskId, DiskPath, Error, NetConfig, NetId, NetOverride, TapName, VsockConfig, VsockPath,
    VsockPort,
};

/// A directory for what guests write to overlays. It may become as much as the disks are long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayDir(pub PathBuf);

impl Default for OverlayDir {
    /// Where large temporary files belong (hier(7)): `/tmp` may be made of memory.
    fn default() -> Self {
        Self(PathBuf::from("/var/tmp"))
    }
}

/// The virtio devices of a guest that is booted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicesConfig {
    /// Disks, in the order in which the guest finds them. No two have one id.
    pub disks: Vec<DiskConfig>,
    /// Where what guests write to overlays is kept.
    pub overlay_dir: OverlayDir,
    /// Whether it has an entropy device.
    pub rng: bool,
    /// Whether it has a balloon.
    pub balloon: bool,
    /// Network interfaces, in the order in which the guest finds them. No two have one id, or one TAP.
    pub nets: Vec<NetConfig>,
    /// The socket device, if it has one.
    pub vsock: Option<VsockConfig>,
}

impl DevicesConfig {
    /// Takes what was typed.
    ///
    /// # Errors
    /// Two devices have one name, or two interfaces one TAP.
    pub fn new(
        disks: Vec<DiskConfig>,
        overlay_dir: OverlayDir,
        rng: bool,
        balloon: bool,
        nets: Vec<NetConfig>,
        vsock: Option<VsockConfig>,
    ) -> Result<Self, Error> {
        unique(disks.iter().map(|disk| &disk.id))?;
        unique_nets(nets.iter().map(|net| (&net.id, &net.tap)))?;
        Ok(Self { disks, overlay_dir, rng, balloon, nets, vsock })
    }

    /// The same, for a guest that says that it is ready by connecting to this port of the host's.
    ///
    /// # Errors
    /// There is no socket device.
    pub fn ready_at(mut self, port: VsockPort) -> Result<Self, Error> {
        let vsock = self.vsock.as_mut().ok_or(Error::ReadyWithoutVsock { port: port.get() })?;
        vsock.ready = Some(port);
        Ok(self)
    }

    /// How many devices that makes.
    #[must_use]
    pub fn count(&self) -> usize {
        let Self { disks, overlay_dir: _, rng, balloon, nets, vsock } = self;
        let single = [*rng, *balloon, vsock.is_some()];
        disks.len() + nets.len() + single.into_iter().filter(|has| *has).count()
    }
}

/// What an image may use of the host that the user has not named. Every path and name in it was chosen by the image's
/// writer, who need not be the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathTrust {
    /// Nothing.
    #[default]
    Named,
    /// Disks whose recorded paths lie beneath one of these directories.
    Beneath(Vec<PathBuf>),
    /// All that it records.
    All,
}

impl PathTrust {
    /// Takes what was typed.
    ///
    /// # Errors
    /// An empty path, or directories where all is trusted.
    pub fn new(all: bool, roots: Vec<PathBuf>) -> Result<Self, Error> {
        if roots.iter().any(|root| root.as_os_str().is_empty()) {
            return Err(Error::EmptyPath { what: "the directory of disks" });
        }
        match (all, roots.is_empty()) {
            (true, true) => Ok(Self::All),
            (true, false) => Err(Error::TrustTwice),
            (false, true) => Ok(Self::Named),
            (false, false) => Ok(Self::Beneath(roots)),
        }
    }
}

/// What a restored guest's devices use of the host in place of what the image says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceOverrides {
    /// Files for disks, and for the bases of overlays.
    pub disks: BTreeMap<DiskId, PathBuf>,
    /// Where what the guest writes to overlays is kept.
    pub overlay_dir: OverlayDir,
    /// TAPs for network interfaces.
    pub nets: BTreeMap<NetId, TapName>,
    /// The host's socket for the socket device.
    pub vsock: Option<PathBuf>,
    /// What the image may use of the host beside these.
    pub trust: PathTrust,
}

impl DeviceOverrides {
    /// Takes what was typed.
    ///
    /// # Errors
    /// A device is named twice, or a TAP.
    pub fn new(
        disks: Vec<DiskPath>,
        overlay_dir: OverlayDir,
        nets: Vec<NetOverride>,
        vsock: Option<VsockPath>,
        trust: PathTrust,
    ) -> Result<Self, Error> {
        unique(disks.iter().map(|disk| &disk.id))?;
        unique_nets(nets.iter().map(|net| (&net.id, &net.tap)))?;
        Ok(Self {
            disks: disks.into_iter().map(|DiskPath { id, path }| (id, path)).collect(),
            overlay_dir,
            nets: nets.into_iter().map(|NetOverride { id, tap }| (id, tap)).collect(),
            vsock: vsock.map(|VsockPath(path)| path),
            trust,
        })
    }
}

fn unique<'a>(ids: impl Iterator<Item = &'a DiskId>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(Error::DiskTwice { id: id.as_str().to_owned() });
        }
    }
    Ok(())
}

fn unique_nets<'a>(nets: impl Iterator<Item = (&'a NetId, &'a TapName)>) -> Result<(), Error> {
    let (mut ids, mut taps) = (BTreeSet::new(), BTreeSet::new());
    for (id, tap) in nets {
        if !ids.insert(id) {
            return Err(Error::NetTwice { id: id.as_str().to_owned() });
        }
        if !taps.insert(tap) {
            return Err(Error::TapTwice { tap: tap.as_str().to_owned() });
        }
    }
    Ok(())
}
