//! `rekindle inspect`: what an image is and what it needs, from its `state` file alone.

use anyhow::Result;
use snapshot_format::dir::{self, MEMORY_PACK};
use snapshot_format::section::Entry;
use snapshot_format::state::{ManifestState, MemoryState};
use snapshot_format::{ImageDir, MemoryIndex, StateReader};
use vmm::device::virtio::VirtioSetState;
use vmm::restore;

use super::args::InspectArgs;
use super::output;

mod devices;
mod render;
mod view;

use view::OutsideView;
pub(super) use view::{MemoryView, SectionView, View, WorkingSetView};

#[cfg(test)]
mod inspect_test;

/// Shows an image.
pub(super) fn run(args: &InspectArgs) -> Result<()> {
    let view: View = load(args)?;
    if args.json { output::json(&view) } else { output::text(&render::human(&view)) }
}

/// Reads the header, the section table and the manifest, and the devices if it can; the rest may be of a version that this
/// build cannot read.
fn load(args: &InspectArgs) -> Result<View> {
    let path = &args.image;
    let failed = |source| restore::Error::State { path: path.clone(), source };
    let dir = ImageDir::open(path).map_err(restore::Error::Directory)?;
    let mut state = StateReader::parse(dir.state()).map_err(failed)?;
    let manifest: ManifestState = state.take("manifest").map_err(failed)?;
    let section = |entry: &Entry| SectionView {
        name: entry.name.clone(),
        version: entry.version,
        bytes: entry.bytes.len() as u64,
    };
    let sections = state.sections().iter().map(section).collect();
    let memory = how_kept(&dir).map_err(restore::Error::Directory)?;
    let working_set = working_set(&dir, &manifest, &mut state);
    let virtio = VirtioSetState::read(&mut state).ok();
    let devices = (virtio.as_ref().map(devices::of), virtio.as_ref().map(OutsideView::of));
    Ok(View::new(path, manifest, memory, working_set, devices, sections))
}

fn how_kept(dir: &ImageDir) -> Result<MemoryView, dir::Error> {
    if dir.has_memory() {
        return Ok(MemoryView::Plain);
    }
    let Some(pack) = dir.part(MEMORY_PACK)? else { return Ok(MemoryView::Elsewhere) };
    let about = pack.metadata();
    let failed = |source| dir::Error::Read { path: dir.path().join(MEMORY_PACK), source };
    Ok(MemoryView::Packed { bytes: about.map_err(failed)?.len() })
}

/// None too if the page index cannot be read, which it is compared with.
fn working_set(
    dir: &ImageDir,
    manifest: &ManifestState,
    state: &mut StateReader<'_>,
) -> Option<WorkingSetView> {
    let index = MemoryIndex::try_from(state.take::<MemoryState>("memory").ok()?).ok()?;
    match dir.working_set(manifest.image_id, index.file_pages()) {
        Ok(set) => {
            set.map(|set| WorkingSetView::Good { pages: set.pages(), written_pages: set.written_pages() })
        }
        Err(error) => Some(WorkingSetView::Unusable { error: error.to_string() }),
    }
}
