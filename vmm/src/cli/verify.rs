//! `rekindle verify`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use snapshot_format::handoff::spell_id;
use snapshot_format::state::MemoryState;
use snapshot_format::{ErrorKind, ImageDir, MemoryIndex, StateReader};
use vmm::restore;

use super::args::VerifyArgs;
use super::exit::printable;
use super::inspect::WorkingSetView;
use super::output;

/// What was found good; also the JSON of `verify --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct VerifiedView {
    image: String,
    image_id: String,
    vcpus: u32,
    memory_bytes: u64,
    /// Bytes that were compared with checksums: pages and sectors that are not zero.
    data_bytes: u64,
    working_set: Option<WorkingSetView>,
}

/// Checks every byte of an image: the state file by decoding all of it, memory, packed or not, and disks by their
/// checksums, the working set by its own.
pub(super) fn run(args: &VerifyArgs) -> Result<()> {
    let contents = restore::read(&args.image)?;
    let dir = ImageDir::open(&args.image).map_err(restore::Error::Directory)?;
    let memory =
        if dir.has_memory() { contents.verify_memory()? } else { page_server::image::verify(&args.image)? };
    let manifest = contents.manifest();
    let view = VerifiedView {
        image: args.image.display().to_string(),
        image_id: spell_id(&manifest.image_id),
        vcpus: manifest.vcpus,
        memory_bytes: manifest.memory_bytes,
        data_bytes: memory + contents.verify_disks()?,
        working_set: working_set(&args.image, &dir, manifest.image_id)?,
    };
    if args.json { output::json(&view) } else { output::text(&line(&view)) }
}

/// One line for the terminal.
fn line(view: &VerifiedView) -> String {
    let VerifiedView { image, image_id: _, vcpus, memory_bytes, data_bytes, working_set } = view;
    let set = match working_set {
        None => String::new(),
        Some(WorkingSetView::Good { pages, .. }) => format!(", working set of {pages} pages"),
        Some(WorkingSetView::Unusable { error }) => format!("; {error}"),
    };
    let line = format!(
        "{image}: good ({vcpus} vCPUs, {} MiB of memory, {:.1} MiB of data{set})",
        memory_bytes >> 20,
        *data_bytes as f64 / f64::from(1 << 20),
    );
    printable(&line) + "\n"
}

/// What there is to say of the working set. One of a later version is as good as it can be told.
fn working_set(path: &Path, dir: &ImageDir, image_id: [u8; 16]) -> Result<Option<WorkingSetView>> {
    let damaged = |source| restore::Error::State { path: path.to_owned(), source };
    let mut state = StateReader::parse(dir.state()).map_err(damaged)?;
    let memory: MemoryState = state.take("memory").map_err(damaged)?;
    let index = MemoryIndex::try_from(memory)
        .map_err(|source| restore::Error::Memory { path: path.to_owned(), source })?;
    match dir.working_set(image_id, index.file_pages()) {
        Ok(set) => {
            Ok(set.map(|set| WorkingSetView::Good { pages: set.pages(), written_pages: set.written_pages() }))
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            Ok(Some(WorkingSetView::Unusable { error: error.to_string() }))
        }
        Err(error) => Err(error).with_context(|| {
            format!("image `{}` is good, but for its working set, without which it restores", path.display())
        }),
    }
}
