//! An image on disk, and whether it is still what it was.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::program::rekindle;

/// The image in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image(PathBuf);

/// Hashes of an image's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    parts: Vec<(String, [u8; 32])>,
}

impl Image {
    /// The one at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Bakes spark: the machine at the instant at which it has said that it is ready.
    #[track_caller]
    pub fn bake(path: impl Into<PathBuf>, args: &[&str]) -> Self {
        let image = Self(path.into());
        let out = image.0.to_str().expect("scratch paths are UTF-8");
        rekindle([&["bake", "--ready", "port", "--out", out], args].concat()).ok();
        image
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its file `state`.
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Its file `memory`.
    pub fn memory(&self) -> PathBuf {
        self.0.join("memory")
    }

    /// Hashes every byte of it.
    pub fn fingerprint(&self) -> Fingerprint {
        let parts = crate::leftover::entries(&self.0).into_iter().map(|name| {
            let sum = hash(&self.0.join(&name));
            (name, sum)
        });
        Fingerprint { parts: parts.collect() }
    }

    /// Bytes that it takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        let blocks = |path: PathBuf| std::fs::metadata(path).expect("an image has both parts").blocks() * 512;
        blocks(self.state()) + blocks(self.memory())
    }

    /// Demands that `rekindle verify` finds nothing wrong.
    #[track_caller]
    pub fn verifies(&self) {
        rekindle(["verify".as_ref(), self.0.as_os_str()]).ok();
    }

    /// Another image with the same memory, holes and all, and `state` made of these bytes.
    pub fn with_state(&self, path: PathBuf, state: &[u8]) -> Self {
        let copy = self.copy_to(path);
        std::fs::write(copy.state(), state).expect("a copy can be written");
        copy
    }

    /// A copy that may be damaged.
    pub fn copy_to(&self, path: PathBuf) -> Self {
        let mut copy = std::process::Command::new("cp");
        copy.args(["--recursive", "--sparse=always"]).arg(&self.0).arg(&path);
        assert!(copy.status().expect("there is a cp").success());
        Self(path)
    }
}

impl AsRef<Path> for Image {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// Of every byte. Pages of zeros are passed over, by comparison: there are so many of them, and the others are hashed
/// with their places.
fn hash(path: &Path) -> [u8; 32] {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut file = File::open(path).expect("an image has both parts");
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0_u64;
    loop {
        let read = file.read(&mut buffer).expect("an image can be read");
        if read == 0 {
            hash.update(at.to_le_bytes());
            return hash.finalize().into();
        }
        for page in buffer[..read].chunks(ZEROS.len()) {
            if page != &ZEROS[..page.len()] {
                hash.update(at.to_le_bytes());
                hash.update(page);
            }
            at += page.len() as u64;
        }
    }
}
