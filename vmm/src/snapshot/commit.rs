//! The image directory: opened before anything is taken, so that a bad path costs nothing; named last.

use std::fs::File;
use std::path::Path;

use snapshot_format::ImageWriter;

use super::Error;

/// What an image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Guest RAM in bytes.
    pub guest_bytes: u64,
    /// Bytes of it that are not zero: what the image takes on disk.
    pub data_bytes: u64,
}

pub(super) fn open(out: &Path) -> Result<ImageWriter, Error> {
    ImageWriter::create(out).map_err(failed(out))
}

pub(super) fn memory_file(writer: &mut ImageWriter, out: &Path) -> Result<File, Error> {
    writer.memory().map_err(failed(out))
}

pub(super) fn part(writer: &mut ImageWriter, name: &str, out: &Path) -> Result<File, Error> {
    writer.part(name).map_err(failed(out))
}

pub(super) fn commit(writer: ImageWriter, state: &[u8], out: &Path) -> Result<(), Error> {
    writer.commit(state).map_err(failed(out))
}

fn failed(out: &Path) -> impl FnOnce(snapshot_format::dir::Error) -> Error {
    let path = out.to_owned();
    move |source| Error::Directory { path, source }
}
