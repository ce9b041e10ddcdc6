//! What an image names that is not its own: files, interfaces and sockets of the host, as its writer chose them.
//!
//! A list for people, and the decision whether a restore may use each. Opens nothing.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use snapshot_format::codec::Blob;

use super::super::blk::beneath;
use super::VirtioSetState;
use crate::config::{DeviceOverrides, PathTrust};

/// Something of the host's that an image names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// A file or block device.
    Disk {
        /// The disk behind which it lies.
        id: String,
        /// As recorded.
        path: PathBuf,
        /// Whether the guest writes to it. If not, the guest may still read all of it, and its lock is taken.
        writes: bool,
    },
    /// A TAP, which is taken.
    Tap {
        /// The interface behind which it lies.
        id: String,
        /// As recorded.
        tap: String,
    },
    /// A socket, which is made; what the guest connects to are sockets of that name and a port.
    Vsock {
        /// As recorded.
        path: PathBuf,
    },
}

impl VirtioSetState {
    /// All that the image names, whether or not it is to be used.
    #[must_use]
    pub fn outside(&self) -> Vec<Outside> {
        let Self { rng: _, balloon: _, disks, nets, vsock } = self;
        let disks = disks.iter().map(|(id, disk)| Outside::Disk {
            id: id.clone(),
            path: path(&disk.path),
            writes: !disk.read_only && !disk.overlay,
        });
        let nets = nets.iter().map(|(id, net)| Outside::Tap { id: id.clone(), tap: net.tap.clone() });
        let vsock = vsock.iter().map(|vsock| Outside::Vsock { path: path(&vsock.path) });
        disks.chain(nets).chain(vsock).collect()
    }

    /// What of it is neither named again by `overrides` nor trusted.
    pub(super) fn untrusted(&self, overrides: &DeviceOverrides) -> Vec<Outside> {
        let DeviceOverrides { disks, overlay_dir: _, nets, vsock, trust } = overrides;
        let roots: &[PathBuf] = match trust {
            PathTrust::All => return Vec::new(),
            PathTrust::Beneath(roots) => roots,
            PathTrust::Named => &[],
        };
        let mut outside = self.outside();
        outside.retain(|outside| match outside {
            Outside::Disk { id, path, .. } => {
                let is_named = disks.keys().any(|named| named.as_str() == id);
                !is_named && beneath::split(roots, path).is_none()
            }
            Outside::Tap { id, .. } => !nets.keys().any(|named| named.as_str() == id),
            Outside::Vsock { .. } => vsock.is_none(),
        });
        outside
    }
}

fn path(Blob(path): &Blob) -> PathBuf {
    Path::new(OsStr::from_bytes(path)).to_owned()
}

impl Outside {
    /// The option of `restore` that names the same again, as a shell takes it.
    #[must_use]
    pub fn option(&self) -> String {
        match self {
            Self::Disk { id, path, .. } => format!("--disk {}", quoted(&format!("{id}={}", path.display()))),
            Self::Tap { id, tap } => format!("--net {}", quoted(&format!("{id}=tap:{tap}"))),
            Self::Vsock { path } => format!("--vsock {}", quoted(&format!("uds={}", path.display()))),
        }
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { id, path, writes } => {
                let access = if *writes { "read and write" } else { "read" };
                write!(f, "disk `{id}` is `{}`, to {access}", shown(path))
            }
            Self::Tap { id, tap } => write!(f, "network interface `{id}` is TAP `{}`", tap.escape_debug()),
            Self::Vsock { path } => write!(f, "the vsock device has socket `{}`", shown(path)),
        }
    }
}

/// A character within `$'..'`.
fn escaped(c: char) -> String {
    match c {
        '\'' | '\\' => format!("\\{c}"),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c => c.to_string(),
    }
}

/// In one line, whatever the image says.
fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

/// For a shell: the words are the image's, and what is shown is pasted.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:+@%".contains(c);
    match word {
        word if word.chars().all(is_plain) => word.to_owned(),
        // A line break would look like a line of ours; a shell takes this spelling for it.
        word if word.contains(char::is_control) => {
            format!("$'{}'", word.chars().map(escaped).collect::<String>())
        }
        word => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
