//! The lab's initramfs: `init.sh`, the modules it loads, and the command with its environment as a script.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Job, SHARE, carried};
use crate::guests;
use crate::guests::initramfs::Initramfs;
use crate::guests::kernel::Kernel;
use crate::{place, process};

#[cfg(test)]
#[path = "image_test.rs"]
mod image_test;

/// In no particular order: the manifest has the one in which they can be inserted.
const MODULES: [&str; 7] = ["kvm_amd", "virtio_pci", "virtio_console", "9p", "9pnet_virtio", "tun", "loop"];
/// The same where there is no virtio.
const CARRIED_MODULES: [&str; 3] = ["kvm_intel", "tun", "loop"];

/// Variables that the command inherits, by name or by prefix. Those by which cargo describes the package it
/// runs are about this program, not about the command.
const PASSED: [&str; 5] = ["PATH", "HOME", "LANG", "USER", "TERM"];
const PASSED_PREFIXES: [&str; 3] = ["CARGO_", "RUST_", "REKINDLE_"];
const CARGO_RUN_PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

/// Directories of the outer file system that the lab hides under fresh ones, and that may hold files of ours.
const FRESH: [&str; 3] = ["/dev/shm", "/run", "/tmp"];

/// The archive for one job that finds the outer file system mounted.
pub fn build(kernel: &Kernel, job: &Job) -> Result<Initramfs> {
    let directory = env::current_dir().context("cannot tell the current directory")?;
    let mut archive = base(kernel, job, &MODULES, &directory)?;
    let mut keep = vec![place::workspace(), place::target(), directory];
    // The program and the files that it is told of may lie in such a place too.
    keep.extend(job.command.iter().map(PathBuf::from).filter(|path| path.exists()));
    archive.file("job/keep", 0o644, hidden(&keep));
    Ok(archive)
}

/// The archive for one job that sees nothing of the outer file system but what is in here: its command, those of its
/// arguments that are files, and `job.files`, each where it is outside. `ports` are the lines of `/job/ports`.
pub fn build_carrying(kernel: &Kernel, job: &Job, ports: String) -> Result<Initramfs> {
    let directory = env::current_dir().context("cannot tell the current directory")?;
    let mut archive = base(kernel, job, &CARRIED_MODULES, &directory)?;
    let mut keep = directory.as_os_str().as_bytes().to_vec();
    keep.push(b'\n');
    archive.file("job/keep", 0o644, keep);
    archive.file("job/ports", 0o644, ports);

    let mut words = job.command.iter().map(PathBuf::from);
    let mut files = job.files.clone();
    if let Some(program) = words.next().filter(|name| !archive.has(&Path::new("bin").join(name))) {
        let found = if program.components().count() == 1 {
            process::find(program.as_os_str())
        } else {
            Some(program.clone())
        };
        files.push(found.with_context(|| format!("there is no {}", program.display()))?);
    }
    files.extend(words.filter(|path| path.is_file()));
    for file in &files {
        let path = directory.join(file);
        carried::add(&mut archive, &path).with_context(|| format!("cannot carry {}", path.display()))?;
    }
    Ok(archive)
}

/// What both have.
fn base(kernel: &Kernel, job: &Job, modules: &[&str], directory: &Path) -> Result<Initramfs> {
    let mut archive = Initramfs::with_busybox()?;
    archive.modules(kernel, modules)?;
    archive.file("init", 0o755, include_str!("init.sh"));

    // Of a variable that is given twice, the last counts.
    let mut variables = vec![(guests::VARIABLE.into(), place::guests().into())];
    variables.extend(passed(env::vars_os()));
    variables.push(("REKINDLE_LAB".into(), "1".into()));
    variables.push(("REKINDLE_LAB_SHARE".into(), SHARE.into()));
    variables.extend(job.env.iter().cloned());
    archive.file("job/command", 0o755, script(directory, &variables, &job.command));
    Ok(archive)
}

/// The part of an environment that goes into the lab.
fn passed(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let has_prefix = |name: &str, prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let goes = |name: &str| {
        PASSED.contains(&name)
            || (has_prefix(name, &PASSED_PREFIXES) && !has_prefix(name, &CARGO_RUN_PREFIXES))
    };
    variables.filter(|(name, _)| name.to_str().is_some_and(goes)).collect()
}

/// A shell script that runs `command` in `directory` with exactly `variables`.
fn script(directory: &Path, variables: &[(OsString, OsString)], command: &[OsString]) -> Vec<u8> {
    let mut text = b"#!/bin/sh\ncd ".to_vec();
    text.extend(quoted(directory.as_os_str()));
    text.extend(b" || exit 126\nexec env -i");
    for (name, value) in variables {
        text.extend(b" ");
        text.extend(name.as_bytes());
        text.extend(b"=");
        text.extend(quoted(value));
    }
    for word in command {
        text.extend(b" ");
        text.extend(quoted(word));
    }
    text.extend(b"\n");
    text
}

/// In single quotes, where the shell leaves every byte but the quote alone.
fn quoted(word: &OsStr) -> Vec<u8> {
    let inner = word.as_bytes().split(|&byte| byte == b'\'').collect::<Vec<_>>().join(&b"'\\''"[..]);
    [b"'", inner.as_slice(), b"'"].concat()
}

/// Those of `paths` that lie where the lab mounts something fresh, one a line, each after what it lies in.
fn hidden(paths: &[PathBuf]) -> Vec<u8> {
    let hidden = paths.iter().filter(|path| FRESH.iter().any(|fresh| path.starts_with(fresh)));
    let sorted: BTreeSet<&PathBuf> = hidden.collect();
    let mut lines = Vec::new();
    for path in sorted {
        lines.extend(path.as_os_str().as_bytes());
        lines.push(b'\n');
    }
    lines
}
