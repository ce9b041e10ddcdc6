//! Downloads a kernel package and keeps the few megabytes of it that we use.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Guest;
use super::kernel::{Checksum, Manifest, sha256};
use super::modules::{self, Tree};
use crate::debian::archive::Archive;
use crate::process;

#[cfg(test)]
#[path = "fetch_test.rs"]
mod fetch_test;

/// Every module that the lab loads or that a guest script may ask for. Dependencies follow by themselves.
pub(super) const WANTED: [&str; 22] = [
    // KVM in the labs, and the devices they are reached by.
    "kvm_amd",
    "kvm_intel",
    "virtio_pci",
    "virtio_console",
    "9p",
    "9pnet_virtio",
    "tun",
    "vhost_net",
    "vhost_vsock",
    "loop",
    "overlay",
    // What a guest of ours may have.
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "vmw_vsock_virtio_transport",
    "virtio_rng",
    "virtio_balloon",
    "pvpanic_mmio",
    "pvpanic_pci",
    "button",
    "evdev",
    "ptp_kvm",
];

/// Downloads the pinned kernel of `guest` into `dir`, or the newest of its series where the pinned one is
/// gone.
pub fn kernel(guest: &Guest, dir: &Path) -> Result<Manifest> {
    let archive = Archive::open(guest.suites)?;
    let partial = dir.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).context("cannot remove a download that was cut short")?;
    }
    let unpacked = partial.join("unpacked");
    fs::create_dir_all(&unpacked).with_context(|| format!("cannot create {}", unpacked.display()))?;

    let (package, version, pinned, deb) = match archive.download(guest.package, guest.version, &partial) {
        Ok(deb) => (guest.package.to_owned(), guest.version.to_owned(), true, deb),
        Err(why) => {
            eprintln!(
                "note: {} {} cannot be had, looking for the newest: {why:#}",
                guest.package, guest.version
            );
            let (package, version) = newest(&archive, guest)?;
            let deb = archive.download(&package, &version, &partial)?;
            (package, version, false, deb)
        }
    };
    eprintln!("unpacking {package} {version}");
    unpack(&deb, &unpacked)?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    for part in parts(&archive, &package, &version, &release)? {
        let deb = archive.download(&part, &version, &partial)?;
        unpack(&deb, &unpacked)?;
    }

    let manifest = keep(&unpacked, &partial, package, version, pinned, release)?;
    fs::remove_dir_all(&unpacked).context("cannot remove what is not needed of the package")?;
    let text = serde_json::to_vec_pretty(&manifest).context("cannot write the manifest")?;
    fs::write(partial.join("manifest.json"), text).context("cannot write the manifest")?;
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot replace {}", dir.display()))?;
    }
    fs::rename(&partial, dir).with_context(|| format!("cannot move the kernel to {}", dir.display()))?;
    Ok(manifest)
}

fn unpack(deb: &Path, into: &Path) -> Result<()> {
    process::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(into))?;
    fs::remove_file(deb).context("cannot remove the package after unpacking it")
}

/// The packages that the kernel is divided into since Linux 7: its image, its configuration, its modules.
fn parts(archive: &Archive, package: &str, version: &str, release: &str) -> Result<Vec<String>> {
    let versions = archive.versions(package)?;
    let depends = versions.into_iter().find(|(there, _)| there == version).map(|(_, depends)| depends);
    Ok(parts_among(&depends.unwrap_or_default(), release))
}

fn parts_among(depends: &str, release: &str) -> Vec<String> {
    let names = depends.split(',').filter_map(|one| one.split_whitespace().next());
    let of_kernel = |name: &&str| {
        ["linux-binary-", "linux-base-", "linux-modules-"]
            .iter()
            .any(|start| name.strip_prefix(start) == Some(release))
    };
    names.filter(of_kernel).map(str::to_owned).collect()
}

/// The kernel package that the newest metapackage of the series depends on, and its version.
fn newest(archive: &Archive, guest: &Guest) -> Result<(String, String)> {
    let versions = archive.versions(guest.metapackage)?;
    let of_series = versions.into_iter().find(|(version, _)| version.starts_with(guest.series));
    of_series
        .and_then(|(version, depends)| Some((kernel_package(&depends)?, version)))
        .with_context(|| format!("the archive has no {} {}", guest.metapackage, guest.series))
}

/// The name of the kernel package among a metapackage's dependencies.
fn kernel_package(depends: &str) -> Option<String> {
    let mut names = depends.split(',').filter_map(|one| one.split_whitespace().next());
    names.find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

/// Copies the image, the configuration and the wanted modules from `unpacked` to `into`.
fn keep(
    unpacked: &Path,
    into: &Path,
    package: String,
    version: String,
    pinned: bool,
    release: String,
) -> Result<Manifest> {
    let tree = Tree::open(unpacked, &release)?;
    let (modules, absent) = modules::closure(&tree, &WANTED)?;
    let mut names = vec!["vmlinuz".to_owned(), "config".to_owned()];
    for name in &names {
        // Since Linux 7 they lie beside the modules, and are linked to /boot when the package is installed.
        let places = [format!("boot/{name}-{release}"), format!("usr/lib/modules/{release}/{name}")];
        let places = places.map(|place| unpacked.join(place));
        let from = places.iter().find(|path| path.exists()).unwrap_or(&places[0]);
        fs::copy(from, into.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    fs::create_dir_all(into.join("modules")).context("cannot create the directory of modules")?;
    for module in &modules {
        let name = format!("modules/{}.ko", module.name);
        let content = tree.read(&module.name)?;
        fs::write(into.join(&name), content).with_context(|| format!("cannot write {name}"))?;
        names.push(name);
    }
    let sum = |path: String| Ok(Checksum { sha256: sha256(&into.join(&path))?, path });
    let files = names.into_iter().map(sum).collect::<Result<Vec<_>>>()?;
    let built_in = absent.iter().filter(|name| tree.has_built_in(name)).cloned().collect();
    Ok(Manifest { package, version, pinned, release, files, modules, absent, built_in })
}
