//! A directory of a test's own, which must be left without half images.

use std::path::{Path, PathBuf};

use crate::leftover;

/// A directory that is removed in the end.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "it makes a directory, which no default should")]
    pub fn new() -> Self {
        let made = tempfile::Builder::new().prefix("rekindle-").tempdir();
        Self(made.expect("a temporary directory can be made"))
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file in it.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a scratch file can be written");
        path
    }

    /// The names of what lies in it, in order.
    pub fn entries(&self) -> Vec<String> {
        leftover::entries(self.root())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let half = leftover::half_images(self.root());
            assert!(half.is_empty(), "half images are left: {half:?}");
        }
    }
}
