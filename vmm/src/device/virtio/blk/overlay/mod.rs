//! An overlay: a disk whose base is never written. What the guest writes goes to a sparse file of its own.
//!
//! ```text
//!   own        what this guest has written since the last snapshot: a file without a name     <- writes
//!   frozen     what it had written when snapshots were taken, if it ran on after them
//!   image      what the image had that it was restored from: its file `disk-ID`
//!   base       the file or block device that was named; shared by any number of guests
//! ```
//!
//! A sector is read from the uppermost layer that has it. Layers are made of whole sectors, as requests are, so nothing is
//! ever copied up. What is discarded or zeroed is a hole in `own` that `own` answers for: the base does not show again.

mod frozen;
mod layer;
mod merge;
mod sectors;
mod transfer;

#[cfg(test)]
mod overlay_test;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use snapshot_format::overlay::OverlayIndex;
use vm_memory::VolatileSlice;

use super::disk::{Disk, read, write, zero};
use super::{Error, SECTOR};
use layer::{Layer, Sums, piece};
use merge::{Merge, Merged};
use sectors::Sectors;

pub use frozen::{CopyError, Frozen};

/// From so many layers of snapshots on, which a guest reads through, they are merged into one beside the running guest.
const MANY_FROZEN: usize = 8;
/// The most of them, if that comes to nothing again and again: then they are merged while the guest stands still.
const MOST_FROZEN: usize = 32;

/// The disk.
#[derive(Debug)]
pub struct Overlay {
    // Configuration.
    /// Where `own` files are made.
    directory: PathBuf,
    // Connections.
    base: Disk,
    image: Option<Arc<Layer>>,
    /// The oldest first.
    frozen: Vec<Arc<Layer>>,
    own: Layer,
    /// Where a merged layer appears.
    merged: Arc<Merged>,
}

/// What an image has of a disk.
#[derive(Debug)]
pub struct ImageLayer {
    /// Its file `disk-ID`.
    pub file: File,
    /// Which sectors the file has.
    pub index: OverlayIndex,
}

impl Overlay {
    /// An overlay over `base`, which is open for reading only, and over what an image has of it, if it was restored.
    /// The guest's writes go to a file in `directory`.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn new(base: Disk, image: Option<ImageLayer>, directory: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Overlay { directory: directory.to_owned(), source };
        let own = Layer::temporary(directory, base.len()).map_err(failed)?;
        let image = image.map(|ImageLayer { file, index }| {
            let mut sectors = Sectors::default();
            index.runs().iter().for_each(|run| sectors.insert(run.clone()));
            Arc::new(Layer::new(Arc::new(file), sectors, Sums::new()))
        });
        let directory = directory.to_owned();
        Ok(Self { directory, base, image, frozen: Vec::new(), own, merged: Arc::default() })
    }

    /// What is never written.
    #[must_use]
    pub fn base(&self) -> &Disk {
        &self.base
    }

    /// All layers, the lowest first.
    fn layers(&self) -> impl DoubleEndedIterator<Item = &Layer> {
        let below = self.image.iter().chain(&self.frozen).map(Arc::as_ref);
        below.chain(std::iter::once(&self.own))
    }

    /// The file that has the first sector at byte `at`, and how many bytes from there on, at most `bytes`.
    fn file_at(&self, at: u64, bytes: u64) -> (&Arc<File>, u64) {
        let (layer, end) = piece(self.layers(), at / SECTOR..(at + bytes) / SECTOR);
        (layer.map_or(self.base.file(), |layer| &layer.file), end * SECTOR - at)
    }

    pub(super) fn read(&self, to: &[VolatileSlice<'_>], at: u64) -> io::Result<()> {
        let bytes: usize = to.iter().map(VolatileSlice::len).sum();
        let mut done = 0;
        while done < bytes {
            let from = at + done as u64;
            let (file, there) = self.file_at(from, (bytes - done) as u64);
            let there = there as usize;
            read(file, &part(to, done, there), from)?;
            done += there;
        }
        Ok(())
    }

    /// The file from which all of it can be read at once, if there is one.
    pub(super) fn readable_at_once(&self, at: u64, bytes: u64) -> Option<&Arc<File>> {
        let (file, there) = self.file_at(at, bytes.max(SECTOR));
        (there >= bytes).then_some(file)
    }

    pub(super) fn write(&mut self, from: &[VolatileSlice<'_>], at: u64) -> io::Result<()> {
        write(&self.own.file, from, at)?;
        self.written(at, from.iter().map(|slice| slice.len() as u64).sum());
        Ok(())
    }

    /// The file that all writes go to.
    pub(super) fn own(&self) -> &Arc<File> {
        &self.own.file
    }

    /// These bytes are in `own` now. Before that, what lies below shows; so a write that fails half way changes nothing
    /// that was not the overlay's before.
    pub(super) fn written(&mut self, at: u64, bytes: u64) {
        self.own.sectors.insert(at / SECTOR..(at + bytes) / SECTOR);
    }

    /// For what is discarded as well: to forget that it was written would show the base again.
    pub(super) fn write_zeroes(&mut self, at: u64, bytes: u64) -> io::Result<()> {
        zero(&self.own.file, at, bytes, true)?;
        self.written(at, bytes);
        Ok(())
    }

    /// What is written from here on goes to a new layer, so that what was written before can be copied while the guest
    /// runs. Call only while no request is on its way.
    ///
    /// # Errors
    /// No file can be made, or there is no room to merge layers. The overlay is as it was.
    pub fn freeze(&mut self) -> Result<Frozen, Error> {
        self.adopt();
        self.freeze_own().map_err(|source| Error::Overlay { directory: self.directory.clone(), source })?;
        let merge = (self.frozen.len() >= MANY_FROZEN).then(|| self.merge());
        Ok(Frozen {
            base: Arc::clone(self.base.file()),
            layers: self.image.iter().chain(&self.frozen).cloned().collect(),
            len: self.base.len(),
            merge,
        })
    }

    /// Takes a layer into use that was merged beside the guest. Requests may be on their way: they keep the files that
    /// they read, which say the same.
    pub(super) fn adopt(&mut self) {
        self.merged.adopt(&mut self.frozen);
    }

    fn freeze_own(&mut self) -> io::Result<()> {
        if self.own.sectors.is_empty() {
            return Ok(());
        }
        let fresh = Layer::temporary(&self.directory, self.base.len())?;
        if self.frozen.len() >= MOST_FROZEN {
            self.merge_now()?;
        }
        self.frozen.push(Arc::new(std::mem::replace(&mut self.own, fresh)));
        Ok(())
    }

    /// What makes one layer of all frozen ones.
    fn merge(&self) -> Merge {
        let (directory, result) = (self.directory.clone(), Arc::clone(&self.merged));
        Merge { directory, layers: self.frozen.clone(), result }
    }

    fn merge_now(&mut self) -> io::Result<()> {
        let (base, layers) = (Arc::clone(self.base.file()), self.frozen.clone());
        let all = Frozen { base, layers, len: self.base.len(), merge: Some(self.merge()) };
        all.merge(&|| true).map_err(|error| match error {
            CopyError::Read(source) | CopyError::Write(source) => source,
            CopyError::Cancelled => io::ErrorKind::Interrupted.into(),
        })?;
        self.adopt();
        Ok(())
    }
}

/// `bytes` bytes of memory from byte `skip` on.
fn part<'memory>(
    memory: &[VolatileSlice<'memory>],
    mut skip: usize,
    mut bytes: usize,
) -> Vec<VolatileSlice<'memory>> {
    let mut parts = Vec::with_capacity(memory.len());
    for slice in memory {
        let start = skip.min(slice.len());
        let count = bytes.min(slice.len() - start);
        skip -= start;
        bytes -= count;
        if count > 0 {
            parts.push(slice.subslice(start, count).expect("it lies within the slice"));
        }
    }
    parts
}
