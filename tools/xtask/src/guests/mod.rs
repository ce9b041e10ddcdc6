//! Stock Linux kernels for tests, as their distribution ships them: which ones, and where they lie once
//! downloaded.
//!
//! One of them is also the lab's own kernel. What a guest does after boot is a script in `tests/guests`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::debian::archive::{BACKPORTS, OLDEST, RELEASES, Suites};
use crate::debian::packages::{self, BUSYBOX, E2FSPROGS, XZ};
use crate::place;

pub mod fetch;
pub mod initramfs;
pub mod kernel;
pub mod modules;

use kernel::Kernel;

/// The variable that tells tests where the kernels are: below `$REKINDLE_GUESTS/NAME`, as [`kernel::Kernel`]
/// has it.
pub const VARIABLE: &str = "REKINDLE_GUESTS";

/// A kernel to test with.
#[derive(Debug)]
pub struct Guest {
    /// Its directory below `target/guests`.
    pub name: &'static str,
    /// Where in the archive it is.
    suites: Suites,
    /// The package that always depends on the newest kernel of this flavour.
    metapackage: &'static str,
    /// The kernel series, as a prefix of the version.
    series: &'static str,
    /// The pinned kernel's package and version.
    package: &'static str,
    version: &'static str,
}

/// The generic kernel that is also the lab's: it has `kvm_amd` and 9p, which the cloud kernels lack.
pub const GENERIC_6_1: Guest = Guest {
    name: "generic-6.1",
    suites: RELEASES,
    metapackage: "linux-image-amd64",
    series: "6.1.",
    package: "linux-image-6.1.0-50-amd64",
    version: "6.1.176-1",
};

/// A cloud kernel, and the Intel lab's: it has `kvm_intel`, and its LZ4 unpacks faster in emulation than the XZ of generic
/// ones.
pub const CLOUD_6_1: Guest = Guest {
    name: "cloud-6.1",
    suites: RELEASES,
    metapackage: "linux-image-cloud-amd64",
    series: "6.1.",
    package: "linux-image-6.1.0-50-cloud-amd64",
    version: "6.1.176-1",
};

/// The lab's oldest kernel: of the oldest release that mirrors carry.
pub const GENERIC_OLDEST: Guest = Guest {
    name: "generic-oldest",
    suites: OLDEST,
    metapackage: "linux-image-amd64",
    series: "",
    package: "linux-image-5.10.0-32-amd64",
    version: "5.10.223-1",
};

/// The lab's newest kernel. Backports keep a version for some weeks only; then the newest that is there stands in.
pub const GENERIC_NEWEST: Guest = Guest {
    name: "generic-newest",
    suites: BACKPORTS,
    metapackage: "linux-image-amd64",
    series: "",
    package: "linux-image-7.3.4+deb13-amd64",
    version: "7.3.4-1~bpo13+1",
};

/// Every kernel that the tests boot. Pinned to point releases, which mirrors keep longest.
pub const GUESTS: [Guest; 3] = [
    CLOUD_6_1,
    GENERIC_6_1,
    Guest {
        name: "cloud-6.12",
        suites: RELEASES,
        metapackage: "linux-image-cloud-amd64",
        series: "6.12.",
        package: "linux-image-6.12.107+deb13-cloud-amd64",
        version: "6.12.107-1",
    },
];

/// Downloads every kernel and builds one initramfs for each pair of kernel and script.
pub fn prepare() -> Result<Vec<Kernel>> {
    packages::ensure(&[BUSYBOX, XZ, E2FSPROGS])?;
    let scripts = scripts()?;
    let mut kernels = Vec::new();
    for guest in &GUESTS {
        let kernel = kernel::ensure(guest)?;
        for script in &scripts {
            initramfs::for_guest(&kernel, script)?;
        }
        kernels.push(kernel);
    }
    Ok(kernels)
}

/// Prints what is there, one line a kernel.
pub fn run() -> Result<()> {
    for Kernel { dir, manifest } in prepare()? {
        println!("{} {} {}", dir.display(), manifest.release, manifest.version);
    }
    Ok(())
}

/// The guest scripts, in the order of their names.
fn scripts() -> Result<Vec<PathBuf>> {
    let dir = place::workspace().join("tests/guests");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "sh"));
    paths.sort();
    Ok(paths)
}
