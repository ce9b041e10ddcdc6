//! Where things are: the workspace, and the build directory that also caches what the chores download.

use std::env;
use std::path::PathBuf;

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    // What `cargo run` says now goes before what was true when this was built: checkouts may share a build
    // directory.
    let now = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).filter(|dir| dir.ends_with("tools/xtask"));
    let package = now.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    package.ancestors().nth(2).expect("this package lies two levels below the root").to_path_buf()
}

/// Cargo's build directory: `CARGO_TARGET_DIR`, or `target` in the workspace.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// Downloaded guest kernels and the initramfs archives built for them.
pub fn guests() -> PathBuf {
    target().join("guests")
}

/// What the lab keeps between runs.
pub fn lab() -> PathBuf {
    target().join("lab")
}

/// Programs that `cargo install` puts there rather than in the user's own directory.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// Where `cargo build --release` puts programs for the target that `.cargo/config.toml` names.
pub fn release() -> PathBuf {
    target().join("x86_64-unknown-linux-gnu/release")
}
