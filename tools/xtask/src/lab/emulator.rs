//! Which QEMU the lab runs on: the host's if it is new enough, else a newer one of Debian's, unpacked for ourselves with
//! the libraries that it wants, and installed nowhere.

use std::ffi::OsString;
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

/// The dynamic loader of the unpacked QEMU, and the directory of its libraries.
const LOADER: &str = "ld-linux-x86-64.so.2";
const LIBRARIES: &str = "lib";
/// Where Debian's packages for this architecture have both.
const DEBIAN_LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A QEMU that can be run.
#[derive(Clone, Debug)]
pub struct Emulator {
    /// The program and its first arguments: with libraries of its own, it is its own dynamic loader that is run.
    pub command: Vec<OsString>,
    /// What it says that it is.
    pub version: Version,
}

/// Major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// From here on a lab with one CPU keeps its guests. QEMU 10.0 changes a CPU's pending interrupts without the lock
    /// that devices take for it, and loses some of them: guests stood still, or met a triple fault.
    pub const GOOD: Self = Self(11, 1);

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
        version: "1:11.1.3+ds-1~bpo13+1",
        sha256: "447decc4b3c245edc1d0940bdf97c87e07b2e3bd4b24c4d0c7155d860d52bd5f",
        files: &["usr/bin/qemu-system-x86_64"],
    },
    Source {
        name: "qemu-system-data",
        version: "1:11.1.3+ds-1~bpo13+1",
        sha256: "cae10ea58330bdaa62ce290e20ca43f91b0a3757777644833f45700ab7b6c31d",
        files: &["usr/share/qemu/kvmvapic.bin", "usr/share/qemu/linuxboot_dma.bin", "usr/share/qemu/pvh.bin"],
    },
    Source {
        name: "seabios",
        version: "1.17.0-1~bpo13+1",
        sha256: "1a335215bbdb076e8fe8fc47c2985dcfa2cc4506e5c27697733cc0a4125dd1e9",
        files: &["usr/share/seabios/bios-256k.bin"],
    },
];

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
    let of_host = || process::find(PROGRAM).and_then(|program| Emulator::at(vec![program.into()]).ok());
    if let Some(emulator) = of_host().filter(|emulator| emulator.version >= Version::GOOD) {
        return Ok(emulator);
    }
    match unpacked() {
        Ok(emulator) => return Ok(emulator),
        Err(why) => eprintln!("note: there is no QEMU {} to be had: {why:#}", Version::GOOD),
    }
    packages::ensure(&[QEMU])?;
    let emulator = of_host().with_context(|| format!("there is no {PROGRAM} that runs"))?;
    if emulator.version < Version::GOOD {
        eprintln!("note: QEMU {} now and then loses a guest", emulator.version);
    }
    Ok(emulator)
}

impl Emulator {
    /// What that command runs, if it runs and says its version.
    fn at(command: Vec<OsString>) -> Result<Self> {
        let (program, arguments) = command.split_first().context("a command names a program")?;
        let said = process::output(Command::new(program).args(arguments).arg("--version"))?;
        let version = Version::of(&said)
            .with_context(|| format!("{} does not say its version", program.to_string_lossy()))?;
        Ok(Self { command, version })
    }

    /// The one that was unpacked into `dir`.
    fn in_directory(dir: &Path) -> Result<Self> {
        let [loader, libraries, program] = [LOADER, LIBRARIES, PROGRAM].map(|name| dir.join(name).into());
        let firmware = dir.as_os_str().to_owned();
        Self::at(vec![loader, "--library-path".into(), libraries, program, "-L".into(), firmware])
    }
}

/// The QEMU unpacked in the lab's directory, put there unless it is there already. Several callers at once wait for
/// the first.
fn unpacked() -> Result<Emulator> {
    let dir = place::lab().join("qemu");
    fs::create_dir_all(place::lab()).context("cannot create the lab's directory")?;
    let lock = File::create(place::lab().join("qemu.lock")).context("cannot create the lock of QEMU")?;
    lock.lock().context("cannot take the lock of QEMU")?;
    if !is_whole(&dir) {
        unpack(&dir)?;
    }
    Emulator::in_directory(&dir)
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

/// Downloads QEMU's packages and all that they depend on, and puts the few files that we use into `dir`.
fn unpack(dir: &Path) -> Result<()> {
    let partial = dir.with_extension("partial");
    for old in [&partial, dir] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot replace {}", old.display()))?;
        }
    }
    let all = partial.join("unpacked");
    fs::create_dir_all(partial.join(LIBRARIES)).context("cannot create the directory of libraries")?;
    fs::create_dir_all(&all).with_context(|| format!("cannot create {}", all.display()))?;

    let (debs, pinned) = download()?;
    for deb in &debs {
        process::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&all))?;
    }
    let mut manifest = Manifest { packages: Vec::new(), pinned, files: Vec::new() };
    let mut take = |from: &Path, path: &str| -> Result<()> {
        let to = partial.join(path);
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        manifest.files.push(Checksum { sha256: sha256(&to)?, path: path.to_owned() });
        Ok(())
    };
    for file in SOURCES.iter().flat_map(|source| source.files) {
        let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
        take(&all.join(file), &name)?;
    }
    let system = all.join(DEBIAN_LIBRARIES);
    take(&system.join(LOADER), LOADER)?;
    for library in libraries(&system, &partial.join(PROGRAM))? {
        let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        take(&library, &format!("{LIBRARIES}/{name}"))?;
    }
    for source in SOURCES {
        manifest.packages.push(titled(source.name, &version_of(&debs, source.name)?));
    }
    eprintln!("unpacked {}", manifest.packages.join(", "));
    fs::remove_dir_all(&all).context("cannot remove what is not needed of QEMU")?;
    let text = serde_json::to_vec_pretty(&manifest).context("cannot write the manifest")?;
    fs::write(partial.join("manifest.json"), text).context("cannot write the manifest")?;
    fs::rename(&partial, dir).with_context(|| format!("cannot move QEMU to {}", dir.display()))
}

/// The packages in their pinned versions, or in the newest where one of those is gone, with all that they depend on; and
/// whether they are the pinned ones. apt has checked them all against the archive's signature.
fn download() -> Result<(Vec<PathBuf>, bool)> {
    let archive = Archive::open(BACKPORTS)?;
    let pinned = SOURCES.map(|source| format!("{}={}", source.name, source.version));
    match archive.download_with_needs(&pinned) {
        Ok(debs) => {
            for Source { name, version, sha256: expected, files: _ } in SOURCES {
                let found = sha256(file_of(&debs, name)?)?;
                if found != expected {
                    bail!("{name} {version} has the checksum {found}, not the pinned {expected}");
                }
            }
            Ok((debs, true))
        }
        Err(why) => {
            eprintln!("note: the pinned QEMU cannot be had, looking for the newest: {why:#}");
            let newest = SOURCES.map(|source| source.name.to_owned());
            Ok((archive.download_with_needs(&newest)?, false))
        }
    }
}

/// Of downloaded packages the one with that name.
fn file_of<'a>(debs: &'a [PathBuf], name: &str) -> Result<&'a Path> {
    let prefix = format!("{name}_");
    let is_it =
        |deb: &&PathBuf| deb.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&prefix));
    let deb = debs.iter().find(is_it).with_context(|| format!("apt-get downloaded no {name}"))?;
    Ok(deb)
}

fn version_of(debs: &[PathBuf], name: &str) -> Result<String> {
    let deb = file_of(debs, name)?;
    let said = process::output(Command::new("dpkg-deb").arg("-f").arg(deb).arg("Version"))?;
    Ok(said.trim().to_owned())
}

/// What `program` loads of the libraries in `system`, by the loader that lies among them.
fn libraries(system: &Path, program: &Path) -> Result<Vec<PathBuf>> {
    let mut list = Command::new(system.join(LOADER));
    list.arg("--library-path").arg(system).arg("--list").arg(program);
    Ok(loaded(&process::output(&mut list)?, system))
}

/// The paths below `system` in lines such as `libz.so.1 => /path/libz.so.1 (0x00007f..)`, but for the loader's own.
fn loaded(listed: &str, system: &Path) -> Vec<PathBuf> {
    let path = |line: &str| Some(PathBuf::from(line.split_once("=> ")?.1.split(" (").next()?));
    let paths = listed.lines().filter_map(path);
    paths.filter(|path| path.starts_with(system) && !path.ends_with(LOADER)).collect()
}
