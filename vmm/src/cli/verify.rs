//! `rekindle verify`.

use std::path::Path;

use anyhow::{Context, Result};
use snapshot_format::state::MemoryState;
use snapshot_format::{ErrorKind, ImageDir, MemoryIndex, StateReader};
use vmm::restore;

use super::args::VerifyArgs;
use super::exit::printable;
use super::output;

/// Checks every byte of an image: the state file by decoding all of it, memory, packed or not, and disks by their
/// checksums, the working set by its own.
pub(super) fn run(args: &VerifyArgs) -> Result<()> {
    let contents = restore::read(&args.image)?;
    let dir = ImageDir::open(&args.image).map_err(restore::Error::Directory)?;
    let memory =
        if dir.has_memory() { contents.verify_memory()? } else { page_server::image::verify(&args.image)? };
    let data = memory + contents.verify_disks()?;
    let line = format!(
        "{}: good ({} vCPUs, {} MiB of memory, {:.1} MiB of data{})",
        args.image.display(),
        contents.manifest().vcpus,
        contents.manifest().memory_bytes >> 20,
        data as f64 / f64::from(1 << 20),
        working_set(&args.image, &dir, contents.manifest().image_id)?,
    );
    output::text(&(printable(&line) + "\n"))
}

/// What there is to say of the working set. One of a later version is as good as it can be told.
fn working_set(path: &Path, dir: &ImageDir, image_id: [u8; 16]) -> Result<String> {
    let damaged = |source| restore::Error::State { path: path.to_owned(), source };
    let mut state = StateReader::parse(dir.state()).map_err(damaged)?;
    let memory: MemoryState = state.take("memory").map_err(damaged)?;
    let index = MemoryIndex::try_from(memory)
        .map_err(|source| restore::Error::Memory { path: path.to_owned(), source })?;
    match dir.working_set(image_id, index.file_pages()) {
        Ok(None) => Ok(String::new()),
        Ok(Some(set)) => Ok(format!(", working set of {} pages", set.pages())),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(format!("; {error}")),
        Err(error) => Err(error).with_context(|| {
            format!("image `{}` is good, but for its working set, without which it restores", path.display())
        }),
    }
}
