//! Builds initramfs archives: busybox, some modules, and a script to run as the first process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use cpio::newc;
use cpio::newc::ModeFileType;

use super::kernel::Kernel;
use super::modules;
use crate::process;

#[cfg(test)]
#[path = "initramfs_test.rs"]
mod initramfs_test;

/// The line of a guest script that names the modules to carry.
const MODULES_LINE: &str = "# modules:";

/// The content of an archive, by path without a leading slash.
#[derive(Default)]
pub struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

enum Entry {
    File { mode: u32, content: Vec<u8> },
    Symlink { target: String },
}

impl Initramfs {
    /// A shell and the usual commands in `/bin`, and nothing else.
    pub fn with_busybox() -> Result<Self> {
        let path = process::find("busybox").context("busybox is not installed")?;
        let mut archive = Self::default();
        let busybox = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if is_dynamic(&busybox) {
            bail!("{} is linked dynamically; the package busybox-static has the one to use", path.display());
        }
        archive.file("bin/busybox", 0o755, busybox);
        for applet in process::output(Command::new(&path).arg("--list"))?.lines() {
            if applet != "busybox" {
                archive.symlink(&format!("bin/{applet}"), "busybox");
            }
        }
        Ok(archive)
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.entries.insert(path.to_owned(), Entry::File { mode, content: content.into() });
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.entries.insert(path.to_owned(), Entry::Symlink { target: target.to_owned() });
    }

    /// Whether there is something at a path.
    pub fn has(&self, path: &Path) -> bool {
        path.to_str().is_some_and(|path| self.entries.contains_key(path))
    }

    /// Adds `wanted` and what they need, but for what the kernel has built in, and `/modules/load`, which inserts them all.
    pub fn modules(&mut self, kernel: &Kernel, wanted: &[&str]) -> Result<()> {
        let is_built_in = |name: &&str| kernel.manifest.built_in.iter().any(|there| there == *name);
        let wanted: Vec<&str> = wanted.iter().copied().filter(|name| !is_built_in(name)).collect();
        let chosen = modules::select(&kernel.manifest.modules, &wanted)?;
        let mut load = "#!/bin/busybox sh\n".to_owned();
        for name in chosen {
            let from = kernel.dir.join(format!("modules/{name}.ko"));
            let content = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            self.file(&format!("modules/{name}.ko"), 0o644, content);
            load.push_str(&format!("insmod /modules/{name}.ko || echo \"cannot load {name}\"\n"));
        }
        self.file("modules/load", 0o755, load);
        Ok(())
    }

    /// The archive in cpio's newc format. The same content gives the same bytes: no times, owners or device
    /// numbers.
    pub fn write(&self, mut to: impl io::Write) -> io::Result<()> {
        for (ino, dir) in (1..).zip(self.directories()) {
            let entry =
                newc::Builder::new(&dir).ino(ino).mode(0o755).set_mode_file_type(ModeFileType::Directory);
            entry.write(&mut to, 0).finish()?;
        }
        // Inode numbers only have to differ: equal ones would make hard links.
        for (ino, (path, entry)) in (1_000_000..).zip(&self.entries) {
            let head = newc::Builder::new(path).ino(ino).nlink(1);
            let (head, content) = match entry {
                Entry::File { mode, content } => {
                    (head.mode(*mode).set_mode_file_type(ModeFileType::Regular), content.as_slice())
                }
                Entry::Symlink { target } => {
                    (head.mode(0o777).set_mode_file_type(ModeFileType::Symlink), target.as_bytes())
                }
            };
            let size = u32::try_from(content.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let mut writer = head.write(&mut to, size);
            writer.write_all(content)?;
            writer.finish()?;
        }
        newc::trailer(to)?;
        Ok(())
    }

    /// Every directory that an entry lies in, parents first.
    fn directories(&self) -> BTreeSet<String> {
        let parents = self.entries.keys().flat_map(|path| Path::new(path).ancestors().skip(1));
        parents.map(|dir| dir.display().to_string()).filter(|dir| !dir.is_empty()).collect()
    }
}

/// Builds `initramfs/SCRIPT.cpio` for one kernel, with the modules that the script's `# modules:` line asks
/// for.
///
/// A module that the kernel has built in, or was built without, is left out: the script sees which by trying.
pub fn for_guest(kernel: &Kernel, script: &Path) -> Result<PathBuf> {
    let name = script.file_stem().context("a guest script has a name")?.to_string_lossy().into_owned();
    let text = fs::read_to_string(script).with_context(|| format!("cannot read {}", script.display()))?;
    let known = |name: &&str| kernel.manifest.modules.iter().any(|module| module.name == **name);
    let wanted: Vec<&str> = modules_of(&text).into_iter().filter(known).collect();

    let mut archive = Initramfs::with_busybox()?;
    archive.modules(kernel, &wanted)?;
    archive.file("init", 0o755, text);
    let dir = kernel.dir.join("initramfs");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let path = dir.join(format!("{name}.cpio"));
    let mut bytes = Vec::new();
    archive.write(&mut bytes).context("cannot build an initramfs")?;
    // A test may be reading the old one: replaced, never rewritten, and left alone when nothing has changed.
    if fs::read(&path).is_ok_and(|old| old == bytes) {
        return Ok(path);
    }
    let fresh = path.with_extension("partial");
    fs::write(&fresh, bytes).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::rename(&fresh, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The modules that a guest script asks for.
fn modules_of(script: &str) -> Vec<&str> {
    let line = script.lines().find_map(|line| line.strip_prefix(MODULES_LINE));
    line.unwrap_or_default().split_whitespace().collect()
}

/// Whether an ELF file asks for a dynamic linker: whether it has the path of one.
pub fn is_dynamic(elf: &[u8]) -> bool {
    let head = &elf[..elf.len().min(4096)];
    head.windows(6).any(|bytes| bytes == b"/ld-li")
}
