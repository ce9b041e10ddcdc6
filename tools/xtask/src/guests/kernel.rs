//! A downloaded kernel: `vmlinuz`, `config`, the modules a test may want, and a manifest that says what it
//! is.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::modules::Module;
use super::{Guest, fetch};
use crate::place;

/// A kernel on disk.
#[derive(Debug)]
pub struct Kernel {
    /// Holds `vmlinuz`, `config`, `modules/NAME.ko`, `initramfs/SCRIPT.cpio` and `manifest.json`.
    pub dir: PathBuf,
    /// The content of `manifest.json`.
    pub manifest: Manifest,
}

/// Where a kernel came from and what was kept of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The Debian package.
    pub package: String,
    /// The package's version.
    pub version: String,
    /// Whether it is the version that the repository pins.
    pub pinned: bool,
    /// What `uname -r` prints.
    pub release: String,
    /// Every file but the manifest, by path, with its SHA-256.
    pub files: Vec<Checksum>,
    /// The modules in `modules/`, each after those it needs.
    pub modules: Vec<Module>,
    /// Modules we would have taken, that this kernel was built without or has built in.
    pub absent: Vec<String>,
    /// Those of `absent` that it has built in, as far as the package says.
    #[serde(default)]
    pub built_in: Vec<String>,
}

/// One file's checksum.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checksum {
    /// Relative to the kernel's directory.
    pub path: String,
    /// In hexadecimal.
    pub sha256: String,
}

impl Kernel {
    /// The compressed image, as a boot loader takes it.
    pub fn image(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }
}

/// The kernel of `guest`, downloaded unless it is there already. Several callers at once wait for the first.
pub fn ensure(guest: &Guest) -> Result<Kernel> {
    let dir = place::guests().join(guest.name);
    fs::create_dir_all(place::guests()).context("cannot create the directory of guest kernels")?;
    let lock = File::create(place::guests().join("lock")).context("cannot create the download lock")?;
    lock.lock().context("cannot take the download lock")?;
    let manifest = match read_manifest(&dir) {
        Some(manifest) if !is_stale(&manifest, guest) => manifest,
        _ => fetch::kernel(guest, &dir)?,
    };
    if !manifest.pinned {
        eprintln!(
            "note: {} is {} {}, not the pinned {}",
            guest.name, manifest.package, manifest.version, guest.version
        );
    }
    Ok(Kernel { dir, manifest })
}

/// Whether the repository has moved its pin since the download, or wants a module that was not looked for then. What
/// stands in for a pin that is gone stays.
fn is_stale(manifest: &Manifest, guest: &Guest) -> bool {
    let known = |name: &&str| {
        manifest.modules.iter().any(|module| module.name == **name)
            || manifest.absent.iter().any(|absent| absent == *name)
    };
    (manifest.pinned && manifest.version != guest.version) || !fetch::WANTED.iter().all(known)
}

/// The manifest in `dir`, if it is one that this version of the chores wrote.
fn read_manifest(dir: &Path) -> Option<Manifest> {
    let text = fs::read(dir.join("manifest.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The checksum of one file.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    io::copy(&mut file, &mut hasher).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
