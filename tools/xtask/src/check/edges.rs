//! The dependencies between crates that must not be, over what `cargo metadata` says.

use std::path::PathBuf;

use serde::Deserialize;

#[cfg(test)]
#[path = "edges_test.rs"]
mod edges_test;

/// The part of `cargo metadata` that matters here.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// The directory of the workspace's manifest.
    pub workspace_root: PathBuf,
    /// The members of the workspace.
    pub packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The path of its manifest.
    pub manifest_path: PathBuf,
    /// What it names in its manifest.
    pub dependencies: Vec<Dependency>,
}

/// One line of a manifest.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The crate, by its real name.
    pub name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
    /// Whether only a feature asks for it.
    pub optional: bool,
}

/// Every forbidden dependency, as a sentence.
pub fn violations(metadata: &Metadata) -> Vec<String> {
    metadata.packages.iter().flat_map(|package| of_package(package, metadata)).collect()
}

fn of_package(package: &Package, all: &Metadata) -> Vec<String> {
    let edge = |dependency: &&Dependency| is_forbidden(package, dependency, all);
    let found = package.dependencies.iter().filter(edge);
    found.map(|to| format!("`{}` must not depend on `{}`", package.name, to.name)).collect()
}

fn is_forbidden(package: &Package, to: &Dependency, all: &Metadata) -> bool {
    // Tests, benchmarks and tools are ends of the graph, for every kind of dependency.
    if all.packages.iter().any(|other| other.name == to.name && is_end(other, all)) {
        return true;
    }
    let name = to.name.as_str();
    let is_kvm = name.starts_with("kvm-");
    let is_ours = all.packages.iter().any(|other| other.name == name);
    match package.name.as_str() {
        // What is linked; a test of the format may use more.
        "snapshot-format" if to.kind.is_none() => {
            is_kvm || is_ours || ["vm-memory", "libc", "tokio", "clap"].contains(&name)
        }
        "page-server" => is_kvm || name == "vmm",
        // What the binary needs hangs on its feature, so the library stays without.
        "vmm" if to.kind.is_none() => !to.optional && ["clap", "anyhow", "page-server"].contains(&name),
        _ => false,
    }
}

/// Whether nothing may depend on the package, by where it lies.
fn is_end(package: &Package, all: &Metadata) -> bool {
    let inside = package.manifest_path.strip_prefix(&all.workspace_root);
    inside.is_ok_and(|path| ["tests", "benches", "tools"].iter().any(|directory| path.starts_with(directory)))
}
