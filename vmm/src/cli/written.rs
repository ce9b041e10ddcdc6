//! Files that a run writes: opened before the VM is made, so that a path that cannot be written is told in time, and
//! emptied only once nothing can refuse the VM any more, so that a run that is refused costs nobody a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file to write is part of the image that is to be restored.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is part of the image, which is never written", .0.display())]
pub(super) struct PartOfImage(PathBuf);

/// A file that is going to be written.
pub(super) struct Written {
    path: PathBuf,
    file: File,
}

impl Written {
    /// Opens or creates the file at `path` for `what`, and leaves what is in it. `image` is what the VM is restored
    /// from, if it is.
    pub(super) fn open(path: &Path, what: &str, image: Option<&Path>) -> Result<Self> {
        let opened = File::options().create(true).write(true).truncate(false).open(path);
        let file = opened.with_context(|| format!("cannot write {what} to `{}`", path.display()))?;
        if image.is_some_and(|image| is_part_of(image, &file)) {
            return Err(PartOfImage(path.to_owned()).into());
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// The file, to be written from its beginning. Call [`Self::empty`] before.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Empties it, if it is a file that can be emptied.
    pub(super) fn empty(&self) -> Result<()> {
        let emptied = match self.file.metadata() {
            Ok(metadata) if metadata.is_file() => self.file.set_len(0),
            other => other.map(drop),
        };
        emptied.with_context(|| format!("cannot empty `{}`", self.path.display()))
    }
}

/// Whether `file` is one of the image's own, by whatever name.
fn is_part_of(image: &Path, file: &File) -> bool {
    let Ok(file) = file.metadata() else { return false };
    let same = |part: std::fs::Metadata| (part.dev(), part.ino()) == (file.dev(), file.ino());
    let Ok(parts) = std::fs::read_dir(image) else { return false };
    parts.flatten().any(|part| part.metadata().is_ok_and(same))
}
