//! `rekindle inspect`: what an image is and what it needs, from its `state` file alone.

use anyhow::Result;
use snapshot_format::section::Entry;
use snapshot_format::{ImageDir, StateReader};
use vmm::device::virtio::VirtioSetState;
use vmm::restore;

use super::args::InspectArgs;
use super::output;

mod devices;
mod render;
mod view;

pub(super) use view::{SectionView, View};

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
    let manifest = state.take("manifest").map_err(failed)?;
    let section = |entry: &Entry| SectionView {
        name: entry.name.clone(),
        version: entry.version,
        bytes: entry.bytes.len() as u64,
    };
    let sections = state.sections().iter().map(section).collect();
    let devices = VirtioSetState::read(&mut state).ok().map(|state| devices::of(&state));
    Ok(View::new(path, manifest, devices, sections))
}
