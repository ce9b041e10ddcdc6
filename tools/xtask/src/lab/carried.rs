//! Files of ours in an initramfs, each at its own path, and what a program of them is loaded with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::guests::initramfs::{Initramfs, is_dynamic};
use crate::process;

#[cfg(test)]
#[path = "carried_test.rs"]
mod carried_test;

/// The dynamic loader's path, as programs of this architecture name it.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Adds a file, or all files in a directory. Links are followed: it is their target that is added under their name.
pub fn add(archive: &mut Initramfs, path: &Path) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            add(archive, &entry?.path())?;
        }
        return Ok(());
    }
    let content = fs::read(path)?;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if content.starts_with(b"\x7fELF") && is_dynamic(&content) {
        let listed = process::output(Command::new(LOADER).arg("--list").arg(path))?;
        for library in libraries(&listed) {
            put(archive, &library, 0o755, fs::read(&library)?)?;
        }
        put(archive, Path::new(LOADER), 0o755, fs::read(LOADER)?)?;
    }
    put(archive, path, mode, content)
}

fn put(archive: &mut Initramfs, path: &Path, mode: u32, content: Vec<u8>) -> Result<()> {
    let name = path.strip_prefix("/").context("not an absolute path")?;
    archive.file(name.to_str().context("the path is not UTF-8")?, mode, content);
    Ok(())
}

/// The paths in lines such as `libz.so.1 => /lib/libz.so.1 (0x00007f..)`, which is how the loader lists libraries.
fn libraries(listed: &str) -> Vec<PathBuf> {
    let path = |line: &str| Some(PathBuf::from(line.split_once("=> ")?.1.split(" (").next()?));
    listed.lines().filter_map(path).filter(|path| path.is_absolute() && path != Path::new(LOADER)).collect()
}
