//! Which QEMU the lab runs on: the host's if it is new enough, else a newer one of Debian's, unpacked for ourselves and
//! installed nowhere.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::debian::archive::{Archive, BACKPORTS};
use crate::debian::packages::{self, QEMU};
use crate::guests::kernel::{Checksum, sha256};
use crate::{place, process};

#[cfg(test)]
#[path = "emulator_test.rs"]
mod emulator_test;

const PROGRAM: &str = "qemu-system-x86_64";

/// The release whose own QEMU is older than [`Version::GOOD`], and whose backports have one that is not.
const OLD_DEBIAN: &str = "bookworm";

/// A QEMU that can be run.
#[derive(Clone, Debug)]
pub struct Emulator {
    /// The program.
    pub program: PathBuf,
    /// Where its firmware is, unless it knows.
    pub firmware: Option<PathBuf>,
    /// What it says that it is.
    pub version: Version,
}

/// Major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// From here on the emulation of SVM keeps its guests, those with several CPUs included.
    pub const GOOD: Self = Self(10, 0);

    /// What `--version` prints begins with `QEMU emulator version 10.0.2 (Debian ..)`.
    fn of(said: &str) -> Option<Self> {
        let number = said.strip_prefix("QEMU emulator version ")?.split_whitespace().next()?;
        let mut parts = number.split('.').map(|part| part.parse().ok());
        Some(Self(parts.next()??, parts.next()??))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// A package of Debian's backports that we unpack.
struct Source {
    name: &'static str,
    version: &'static str,
    /// Of the whole package, in hexadecimal.
    sha256: &'static str,
    /// What we take out of it.
    files: &'static [&'static str],
}

/// The first one says what version the others have, where the pinned one is gone.
const SOURCES: [Source; 3] = [
    Source {
        name: "qemu-system-x86",
        version: "1:10.0.2+ds-2+deb13u1~bpo12+1",
        sha256: "4a6b1856c8b0d7df4ff8e70249e12c473ccf8d516aadb4ae14d3d938faed0c65",
        files: &["usr/bin/qemu-system-x86_64"],
    },
    Source {
        name: "qemu-system-data",
        version: "1:10.0.2+ds-2+deb13u1~bpo12+1",
        sha256: "2d831088187087013b3fcbd19bdfb955b182a2d5a08f6dafa0ad1c6d2007fb4e",
        files: &["usr/share/qemu/kvmvapic.bin", "usr/share/qemu/linuxboot_dma.bin", "usr/share/qemu/pvh.bin"],
    },
    Source {
        name: "seabios",
        version: "1.16.3-2~bpo12+1",
        sha256: "48390d0a534c66d11789e39518aa219773a9d3677b29fe1af8799dfb563ec713",
        files: &["usr/share/seabios/bios-256k.bin"],
    },
];

/// What the unpacked QEMU depends on and we do not want: what we unpack ourselves, and firmware of network cards.
const UNPACKED: [&str; 3] = ["qemu-system-", "seabios", "ipxe-"];

/// What is in the directory of an unpacked QEMU, as `manifest.json` in it has it.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// `NAME VERSION` of each package.
    packages: Vec<String>,
    /// Whether these are the versions that the repository pins.
    pinned: bool,
    /// Every file but the manifest, with its SHA-256.
    files: Vec<Checksum>,
}

/// The QEMU to run, installed or unpacked if need be.
///
/// Where no new one can be had, an old one has to do: the lab then masks what is known to be wrong with it, and loses a
/// guest now and then.
pub fn ensure() -> Result<Emulator> {
    let of_host = process::find(PROGRAM).and_then(|program| Emulator::at(program, None).ok());
    if let Some(emulator) = of_host.filter(|emulator| emulator.version >= Version::GOOD) {
        return Ok(emulator);
    }
    if runs_old_debian() {
        match backported() {
            Ok(emulator) => return Ok(emulator),
            Err(why) => eprintln!("note: there is no QEMU {} to be had: {why:#}", Version::GOOD),
        }
    }
    packages::ensure(&[QEMU])?;
    let program = process::find(PROGRAM).with_context(|| format!("there is no {PROGRAM}"))?;
    let emulator = Emulator::at(program, None)?;
    if emulator.version < Version::GOOD {
        eprintln!("note: QEMU {} now and then loses a guest with several CPUs", emulator.version);
    }
    Ok(emulator)
}

impl Emulator {
    /// The program at that path, if it runs and says its version.
    fn at(program: PathBuf, firmware: Option<PathBuf>) -> Result<Self> {
        let said = process::output(Command::new(&program).arg("--version"))?;
        let version =
            Version::of(&said).with_context(|| format!("{} does not say its version", program.display()))?;
        Ok(Self { program, firmware, version })
    }
}

/// Whether this host is the release of Debian that needs a newer QEMU than its own.
fn runs_old_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line.strip_prefix("VERSION_CODENAME=") == Some(OLD_DEBIAN))
}

/// The QEMU unpacked in the lab's directory, put there unless it is there already. Several callers at once wait for
/// the first.
fn backported() -> Result<Emulator> {
    let dir = place::lab().join("qemu");
    fs::create_dir_all(place::lab()).context("cannot create the lab's directory")?;
    let lock = File::create(place::lab().join("qemu.lock")).context("cannot create the lock of QEMU")?;
    lock.lock().context("cannot take the lock of QEMU")?;
    if !is_whole(&dir) {
        unpack(&dir)?;
    }
    // In the cache of a machine that was installed anew, a library may be missing: then it is unpacked once more.
    let at = |dir: &Path| Emulator::at(dir.join(PROGRAM), Some(dir.to_path_buf()));
    match at(&dir) {
        Ok(emulator) => Ok(emulator),
        Err(_) => {
            unpack(&dir)?;
            at(&dir)
        }
    }
}

/// Whether `dir` holds what its manifest says, and that is what we would put there. What stands in for a pin that is
/// gone stays.
fn is_whole(dir: &Path) -> bool {
    let manifest = fs::read(dir.join("manifest.json")).ok();
    let Some(manifest) = manifest.and_then(|text| serde_json::from_slice::<Manifest>(&text).ok()) else {
        return false;
    };
    let Manifest { packages, pinned, files } = manifest;
    let is_current = !pinned || packages == SOURCES.map(|source| titled(source.name, source.version));
    is_current && files.iter().all(|file| sha256(&dir.join(&file.path)).is_ok_and(|sum| sum == file.sha256))
}

fn titled(name: &str, version: &str) -> String {
    format!("{name} {version}")
}

/// Downloads the packages, installs the libraries that they need, and puts the few files that we use into `dir`.
fn unpack(dir: &Path) -> Result<()> {
    let archive = Archive::open(BACKPORTS)?;
    let partial = dir.with_extension("partial");
    for old in [&partial, dir] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot replace {}", old.display()))?;
        }
    }
    let unpacked = partial.join("unpacked");
    fs::create_dir_all(&unpacked).with_context(|| format!("cannot create {}", unpacked.display()))?;

    let mut manifest = Manifest { packages: Vec::new(), pinned: true, files: Vec::new() };
    for source in SOURCES {
        let (version, pinned, deb) = download(&archive, &source, &partial)?;
        eprintln!("unpacking {} {version}", source.name);
        packages::ensure_needs_of(&deb, &UNPACKED)?;
        process::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacked))?;
        fs::remove_file(&deb).context("cannot remove a package after unpacking it")?;
        manifest.packages.push(titled(source.name, &version));
        manifest.pinned &= pinned;
        for from in source.files.iter().map(|file| unpacked.join(file)) {
            let path = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let to = partial.join(&path);
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
            manifest.files.push(Checksum { sha256: sha256(&to)?, path });
        }
    }
    fs::remove_dir_all(&unpacked).context("cannot remove what is not needed of QEMU")?;
    let text = serde_json::to_vec_pretty(&manifest).context("cannot write the manifest")?;
    fs::write(partial.join("manifest.json"), text).context("cannot write the manifest")?;
    fs::rename(&partial, dir).with_context(|| format!("cannot move QEMU to {}", dir.display()))
}

/// The pinned version of a package, or the newest where that is gone; its version, whether it is the pinned one, and its
/// path in `into`.
fn download(archive: &Archive, source: &Source, into: &Path) -> Result<(String, bool, PathBuf)> {
    let Source { name, version, sha256: expected, files: _ } = source;
    match archive.download(name, version, into) {
        Ok(deb) => {
            let found = sha256(&deb)?;
            if found != *expected {
                bail!("{name} {version} has the checksum {found}, not the pinned {expected}");
            }
            Ok(((*version).to_owned(), true, deb))
        }
        Err(why) => {
            eprintln!("note: {name} {version} cannot be had, looking for the newest: {why:#}");
            let newest = archive.versions(name)?.into_iter().next();
            let (version, _) = newest.with_context(|| format!("the archive has no {name}"))?;
            let deb = archive.download(name, &version, into)?;
            Ok((version, false, deb))
        }
    }
}
