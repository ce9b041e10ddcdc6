//! What is left to be done of the disks when the guest may run again: the overlays' layers go into the image, and what
//! was written to other disks goes to where they are.

use std::fs::File;
use std::sync::Arc;

use snapshot_format::overlay::{OverlayIndex, part_name};
use snapshot_format::{ImageWriter, dir};

use super::pages::Target;
use super::{Error, commit};
use crate::device::virtio::DiskLeftover;
use crate::device::virtio::blk::{CopyError, Frozen, Leftover};

/// The index of a disk's file, by the disk's id.
pub(super) type Copied = (String, OverlayIndex);

/// Does it.
pub(super) fn finish(
    leftovers: &[DiskLeftover],
    writer: &mut ImageWriter,
    target: Target<'_>,
) -> Result<Vec<Copied>, Error> {
    let mut copied = Vec::new();
    for DiskLeftover { id, what } in leftovers {
        target.go_on()?;
        match what {
            Leftover::Written(file) => flush(id, file)?,
            Leftover::Overlay(frozen) => {
                let index = copy(id, frozen, writer, target)?;
                copied.push((id.clone(), index));
            }
        }
    }
    Ok(copied)
}

/// Merges layers of overlays that have become too many. That nothing comes of it harms nobody: the next snapshot tries it
/// again.
pub(super) fn merge(leftovers: &[DiskLeftover], target: Target<'_>) {
    for DiskLeftover { id, what } in leftovers {
        let Leftover::Overlay(frozen) = what else { continue };
        if let Err(error) = frozen.merge(&|| target.go_on().is_ok()) {
            tracing::debug!(%error, disk = id.as_str(), "the layers of an overlay were not merged");
        }
    }
}

/// After a power failure an image would else remember more than its disk.
fn flush(id: &str, file: &Arc<File>) -> Result<(), Error> {
    file.sync_data().map_err(|source| Error::FlushDisk { id: id.to_owned(), source })
}

fn copy(
    id: &str,
    frozen: &Frozen,
    writer: &mut ImageWriter,
    target: Target<'_>,
) -> Result<OverlayIndex, Error> {
    let part = part_name(id);
    let file = commit::part(writer, &part, target.out)?;
    frozen.copy(&file, &|| target.go_on().is_ok()).map_err(|error| match error {
        CopyError::Cancelled => Error::Cancelled { path: target.out.to_owned() },
        CopyError::Read(source) => Error::ReadOverlay { id: id.to_owned(), source },
        CopyError::Write(source) => {
            let path = target.out.to_owned();
            Error::Directory { path: path.clone(), source: dir::Error::Write { path, part, source } }
        }
    })
}
