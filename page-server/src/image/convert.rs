//! An image into a packed one and back: another image, with the same state and the same other parts.

use std::path::Path;

use snapshot_format::dir::{MEMORY, MEMORY_PACK, STATE};
use snapshot_format::pages::check_sums;
use snapshot_format::{ImageDir, ImageWriter};

use super::pack::{Packed, pack_memory, sums_of, unpack_memory};
use super::{Error, Options, Served};
use crate::source::Policy;

/// What is decoded twice, if anything, is decoded in order.
const CACHE_BYTES: u64 = 1 << 20;

/// Writes the image `out`: the image at `image` with its memory packed. All of the memory is compared with its checksums
/// on the way.
///
/// # Errors
/// The image is packed already, is damaged, or cannot be read; `out` exists or cannot be written.
pub fn pack(image: &Path, out: &Path) -> Result<Packed, Error> {
    let (dir, served) = open(image)?;
    if !dir.has_memory() {
        return Err(Error::AlreadyPacked { path: image.to_owned() });
    }
    let mut writer = others(&dir, out)?;
    let file = writer.part(MEMORY_PACK).map_err(Error::Directory)?;
    let image_id = served.id().expect("an image has a name for itself");
    let packed = pack_memory(&**served.source(), image_id, &file)?;
    writer.commit(dir.state()).map_err(Error::Directory)?;
    Ok(packed)
}

/// Writes the image `out`: the image at `image`, which is packed, with its memory as it was. What is written is compared
/// with the checksums.
///
/// # Errors
/// The image is not packed, is damaged, or cannot be read; `out` exists or cannot be written.
pub fn unpack(image: &Path, out: &Path) -> Result<(), Error> {
    let (dir, served) = open(image)?;
    if dir.has_memory() {
        return Err(Error::NotPacked { path: image.to_owned() });
    }
    let mut writer = others(&dir, out)?;
    let file = writer.memory().map_err(Error::Directory)?;
    let sums = unpack_memory(&**served.source(), &file)?;
    let index = served.index().expect("an image has an index");
    check_sums(index, sums).map_err(|source| Error::Memory { path: image.to_owned(), source })?;
    writer.commit(dir.state()).map_err(Error::Directory)
}

/// Reads all memory of the image at `image`, which may be packed, and compares it with its checksums; gives the bytes that
/// are data. Every byte of a pack is looked at: its frames are compared with sums of their own before they are decoded.
///
/// # Errors
/// It is damaged, or cannot be read.
pub fn verify(image: &Path) -> Result<u64, Error> {
    let (_, served) = open(image)?;
    let index = served.index().expect("an image has an index");
    let sums = sums_of(&**served.source())?;
    check_sums(index, sums).map_err(|source| Error::Memory { path: image.to_owned(), source })?;
    Ok(index.data_pages() * snapshot_format::pages::PAGE_BYTES)
}

/// The image's parts, and its memory: neither is anybody else's, so nothing is shared and little is kept.
fn open(image: &Path) -> Result<(ImageDir, std::sync::Arc<Served>), Error> {
    let dir = ImageDir::open(image).map_err(Error::Directory)?;
    // Of the same directory: another image may have the name by now.
    let served = Served::of_dir(&dir, &Options::new(CACHE_BYTES, Policy::default()))?;
    Ok((dir, served))
}

/// A writer of the image `out` that has all parts of `dir` but its state and its memory.
fn others(dir: &ImageDir, out: &Path) -> Result<ImageWriter, Error> {
    let mut writer = ImageWriter::create(out).map_err(Error::Directory)?;
    for name in dir.part_names().map_err(Error::Directory)? {
        if ![STATE, MEMORY, MEMORY_PACK].contains(&name.as_str()) {
            writer.share(dir, &name).map_err(Error::Directory)?;
        }
    }
    Ok(writer)
}
