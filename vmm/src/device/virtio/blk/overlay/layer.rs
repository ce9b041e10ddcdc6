//! One layer of an overlay: some sectors of a disk, in a sparse file, each at its own place.
//!
//! A layer that is written no more remembers the checksums of its windows, so that later images need not read them again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use snapshot_format::overlay::OverlaySum;

use super::sectors::Sectors;

/// Sectors, and the file that they are in.
#[derive(Debug)]
pub(super) struct Layer {
    /// As long as the disk.
    pub(super) file: Arc<File>,
    pub(super) sectors: Sectors,
    sums: Mutex<Sums>,
}

/// Checksums of windows, by their number: of the sectors that the layer has there, and zeros where it has none.
pub(super) type Sums = BTreeMap<u64, OverlaySum>;

impl Layer {
    /// These sectors of `file`. Checksums may be known.
    pub(super) fn new(file: Arc<File>, sectors: Sectors, sums: Sums) -> Self {
        Self { file, sectors, sums: Mutex::new(sums) }
    }

    /// The checksums that are known. Call only when nobody writes to the layer any more.
    pub(super) fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A layer without sectors, in a file of `len` bytes in `directory`. The file has no name, so that it goes when its
    /// last user goes, however that ends.
    pub(super) fn temporary(directory: &Path, len: u64) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            // What a file system or a kernel answers that has no such flag.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => named_and_removed(directory)?,
            Err(errno) => return Err(errno.into()),
        };
        file.set_len(len)?;
        Ok(Self::new(Arc::new(file), Sectors::default(), Sums::new()))
    }
}

/// A file that has a name for an instant.
fn named_and_removed(directory: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!(".rekindle-overlay-{}-{number}", std::process::id()));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        match openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => {}
            file => {
                let file = file?;
                unlinkat(CWD, &path, AtFlags::empty())?;
                return Ok(file.into());
            }
        }
    }
}

/// The layer that answers for the first sector of `range`, which is not empty, and up to where it does. `layers` begin
/// with the lowest; `None` if none of them does.
pub(super) fn piece<'layer>(
    layers: impl DoubleEndedIterator<Item = &'layer Layer>,
    range: Range<u64>,
) -> (Option<&'layer Layer>, u64) {
    let mut end = range.end;
    for layer in layers.rev() {
        let (is_in, run_end) = layer.sectors.run(range.start..end);
        end = run_end;
        if is_in {
            return (Some(layer), end);
        }
    }
    (None, end)
}
