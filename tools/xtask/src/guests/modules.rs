//! Kernel modules: which ones a module needs, and an order in which they can be inserted.
//!
//! A kernel package that was only unpacked has no `modules.dep`; each module says itself what it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process;

#[cfg(test)]
#[path = "modules_test.rs"]
mod modules_test;

/// A module and the modules that must be inserted before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// With underscores, as `lsmod` prints it.
    pub name: String,
    /// Names of the modules it depends on directly.
    pub needs: Vec<String>,
}

/// Where module files come from. The disk, or a table in a test.
pub trait Source {
    /// The module's uncompressed bytes; `None` when the kernel has no such module.
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>>;
}

/// The modules of an unpacked kernel package.
pub struct Tree {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Tree {
    /// Finds the modules of kernel `release` below `root`, wherever the package's release of Debian puts
    /// them.
    pub fn open(root: &Path, release: &str) -> Result<Self> {
        let dirs = ["lib/modules", "usr/lib/modules"].map(|dir| root.join(dir).join(release).join("kernel"));
        let Some(dir) = dirs.iter().find(|dir| dir.is_dir()) else {
            bail!("the package of {release} has no modules");
        };
        let mut files = BTreeMap::new();
        collect(dir, &mut files)?;
        // Only some packages have the list.
        let list = fs::read_to_string(dir.with_file_name("modules.builtin")).unwrap_or_default();
        let built_in = list.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Self { files, built_in })
    }

    /// Whether the kernel has the module built in.
    pub fn has_built_in(&self, name: &str) -> bool {
        self.built_in.contains(name)
    }

    /// The module's uncompressed bytes.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.load(name)?.with_context(|| format!("the kernel has no module {name}"))
    }
}

impl Source for Tree {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.files.get(name) else { return Ok(None) };
        if path.extension().is_some_and(|ext| ext == "xz") {
            return process::bytes(process::unxz().arg(path)).map(Some);
        }
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(bytes))
    }
}

/// Everything that `wanted` needs, each module after those it needs, and those of `wanted` that are no
/// modules here.
pub fn closure(source: &impl Source, wanted: &[&str]) -> Result<(Vec<Module>, Vec<String>)> {
    let mut walk = Walk { source, seen: BTreeSet::new(), order: Vec::new(), absent: Vec::new() };
    for name in wanted {
        walk.visit(name)?;
    }
    walk.absent.retain(|name| wanted.contains(&name.as_str()));
    Ok((walk.order, walk.absent))
}

/// Of modules in load order, those that `wanted` needs, still in load order. Unknown names are an error.
pub fn select(modules: &[Module], wanted: &[&str]) -> Result<Vec<String>> {
    let mut needed: BTreeSet<&str> = wanted.iter().copied().collect();
    if let Some(name) = wanted.iter().find(|name| !modules.iter().any(|module| module.name == **name)) {
        bail!("this kernel has no module {name}");
    }
    // Backwards: what a module needs comes before it.
    for module in modules.iter().rev() {
        if needed.contains(module.name.as_str()) {
            needed.extend(module.needs.iter().map(String::as_str));
        }
    }
    let chosen = modules.iter().filter(|module| needed.contains(module.name.as_str()));
    Ok(chosen.map(|module| module.name.clone()).collect())
}

struct Walk<'a, S> {
    source: &'a S,
    seen: BTreeSet<String>,
    order: Vec<Module>,
    absent: Vec<String>,
}

impl<S: Source> Walk<'_, S> {
    fn visit(&mut self, name: &str) -> Result<()> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(bytes) = self.source.load(name)? else {
            self.absent.push(name.to_owned());
            return Ok(());
        };
        let needs = needs(&bytes);
        for need in &needs {
            self.visit(need)?;
        }
        self.order.push(Module { name: name.to_owned(), needs });
        Ok(())
    }
}

/// The `depends=` entry of a module's `.modinfo`: a NUL-terminated string among other such strings.
fn needs(module: &[u8]) -> Vec<String> {
    let entries = module.split(|&byte| byte == 0);
    let depends = entries.filter_map(|entry| entry.strip_prefix(b"depends=")).next().unwrap_or_default();
    let names = depends.split(|&byte| byte == b',').filter(|name| !name.is_empty());
    names.map(|name| underscored(&String::from_utf8_lossy(name))).collect()
}

/// A module's file may be spelled with hyphens; its name never is.
fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_string_lossy();
    let stem = file.strip_suffix(".ko").or_else(|| file.strip_suffix(".ko.xz"))?;
    Some(underscored(stem))
}
