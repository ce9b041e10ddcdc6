//! Makes sure that Debian packages are installed: installs them as root, says how to as anybody else.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use super::LOCK_TIMEOUT;
use crate::{place, process};

#[cfg(test)]
#[path = "packages_test.rs"]
mod packages_test;

/// A package, and a file that shows that it is there. The file is asked, not dpkg, so that a hand-built QEMU
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    name: &'static str,
    shown_by: Evidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    Program(&'static str),
    Library(&'static str),
    File(&'static str),
}

/// The lab's machine, where the distribution's is the one to take.
pub const QEMU: Package =
    Package { name: "qemu-system-x86", shown_by: Evidence::Program("qemu-system-x86_64") };
/// The Intel lab's machine, its firmware, the display that needs no window, and what makes a CD that boots.
pub const BOCHS: [Package; 7] = [
    Package { name: "bochs", shown_by: Evidence::Program("bochs-bin") },
    Package { name: "bochsbios", shown_by: Evidence::File("/usr/share/bochs/BIOS-bochs-latest") },
    Package { name: "vgabios", shown_by: Evidence::File("/usr/share/bochs/VGABIOS-lgpl-latest") },
    Package {
        name: "bochs-term",
        shown_by: Evidence::File("/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so"),
    },
    Package { name: "isolinux", shown_by: Evidence::File("/usr/lib/ISOLINUX/isolinux.bin") },
    Package {
        name: "syslinux-common",
        shown_by: Evidence::File("/usr/lib/syslinux/modules/bios/ldlinux.c32"),
    },
    Package { name: "xorriso", shown_by: Evidence::Program("xorriso") },
];
/// The whole userland of the lab's initramfs and of the guests'. Static, because nothing else is in there.
pub const BUSYBOX: Package = Package { name: "busybox-static", shown_by: Evidence::Program("busybox") };
/// Unpacks kernels and their modules.
pub const XZ: Package = Package { name: "xz-utils", shown_by: Evidence::Program("xz") };
/// Makes the guests' file systems, and checks them.
pub const E2FSPROGS: Package = Package { name: "e2fsprogs", shown_by: Evidence::Program("mke2fs") };
/// Compiles the fuzzer.
pub const CXX: Package = Package { name: "g++", shown_by: Evidence::Program("c++") };
/// Read by the build of the `userfaultfd` crate's bindings.
pub const LIBCLANG: Package = Package { name: "libclang-dev", shown_by: Evidence::Library("libclang") };

/// What building the workspace needs beside Rust: libclang, once some crate in `Cargo.lock` generates
/// bindings.
pub fn to_build() -> Result<Vec<Package>> {
    let lock = fs::read_to_string(place::workspace().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let generates = lock.lines().any(|line| line == "name = \"clang-sys\"");
    Ok(if generates { vec![LIBCLANG] } else { Vec::new() })
}

/// Installs those of `wanted` that are missing.
pub fn ensure(wanted: &[Package]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().filter(|p| !p.is_present()).map(|p| p.name).collect();
    install(&missing)
}

/// Installs packages as root, and tells anybody else how to.
fn install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    if process::find("apt-get").is_none() {
        bail!("these Debian packages are needed, or their like: {}", missing.join(" "));
    }
    let install = format!("apt-get install --yes --no-install-recommends {}", missing.join(" "));
    if !is_root()? {
        bail!("something is missing; this installs it:\n    sudo {install}");
    }
    eprintln!("installing {}", missing.join(" "));
    if lists_are_old() {
        apt_get(&["update", "--quiet"])?;
    }
    let words: Vec<&str> = install.split(' ').skip(1).collect();
    // Lists that look fresh may still name a version that the mirror has replaced.
    if apt_get(&words).is_err() {
        apt_get(&["update", "--quiet"])?;
        apt_get(&words)?;
    }
    Ok(())
}

impl Package {
    fn is_present(self) -> bool {
        match self.shown_by {
            Evidence::Program(program) => process::find(program).is_some(),
            Evidence::File(path) => Path::new(path).exists(),
            Evidence::Library(name) => library_dirs().iter().any(|dir| has_library(dir, name)),
        }
    }
}

/// Where Debian puts libclang: beside the other libraries, and in each LLVM's own directory.
fn library_dirs() -> Vec<std::path::PathBuf> {
    let mut dirs = vec!["/usr/lib/x86_64-linux-gnu".into(), "/usr/lib64".into(), "/usr/local/lib".into()];
    let llvm = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let llvm = llvm.filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"));
    dirs.extend(llvm.map(|entry| entry.path().join("lib")));
    dirs
}

fn has_library(dir: &Path, library: &str) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .any(|name| is_library(&name, library))
}

/// Whether a file is the library, under the name by which programs are built with it. Its neighbours have longer names
/// (`libclang-cpp.so.14`), and the run-time's alone (`libclang-14.so.1`) comes without the headers.
fn is_library(file: &str, library: &str) -> bool {
    file.strip_prefix(library).is_some_and(|rest| rest == ".so" || rest.starts_with(".so."))
}

/// Whether this process runs as root: who owns it is who owns its directory in /proc.
fn is_root() -> Result<bool> {
    let me = fs::metadata("/proc/self").context("cannot read /proc/self")?;
    Ok(me.uid() == 0)
}

/// Whether the system's package lists are missing or more than a week old.
fn lists_are_old() -> bool {
    let week = Duration::from_secs(7 * 24 * 3600);
    let entries = fs::read_dir("/var/lib/apt/lists").into_iter().flatten().flatten();
    let lists = entries.filter(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
    let newest = lists.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max();
    newest.is_none_or(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > week))
}

fn apt_get(words: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-o", LOCK_TIMEOUT]).args(words).env("DEBIAN_FRONTEND", "noninteractive");
    // Its narration is not this program's result, which others may be reading from a pipe.
    command.stdout(std::io::stderr());
    process::run(&mut command)
}
