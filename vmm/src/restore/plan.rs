//! Everything an image says, read and checked before anything is created.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use snapshot_format::overlay::{OverlayIndex, part_name};
use snapshot_format::pages::{PAGE_BYTES, PackIndex, verify};
use snapshot_format::state::{
    ChipsetState, ClockState, HostCheckState, ManifestState, MemoryState, OverlayState, VcpuState,
};
use snapshot_format::{ImageDir, MemoryIndex, StateReader, dir};

use super::Error;
use super::record::Shared;
use crate::arch::x86_64::acpi::MAX_CPUS;
use crate::config::DeviceOverrides;
use crate::device::DeviceSetState;
use crate::device::virtio::blk::ImageLayer;
use crate::device::virtio::{SavedParts, VirtioSetState};
use crate::machine::Host;
use crate::memory::layout::RamLayout;
use crate::memory::{Image, lazy};

/// An image that this host can run, its KVM, and all that its devices need of the host, open.
#[derive(Debug)]
pub struct Plan {
    pub(super) contents: Contents,
    pub(super) host: Host,
    pub(super) virtio: SavedParts,
    /// Whether pages are brought in before the guest touches them.
    pub(super) prefetch: bool,
    /// Whoever wants to know what it touches, and for how long.
    pub(super) recording: Option<(Arc<Shared>, Duration)>,
}

/// What an image that this build can read says.
#[derive(Debug)]
pub struct Contents {
    pub(super) path: PathBuf,
    pub(super) manifest: ManifestState,
    /// Where its needs were met, if it says.
    pub(super) host_check: Option<HostCheckState>,
    pub(super) clock: ClockState,
    pub(super) chipset: ChipsetState,
    pub(super) vcpus: Vec<VcpuState>,
    pub(super) devices: DeviceSetState,
    pub(super) virtio: VirtioSetState,
    /// What guests have written over bases, by the disks' ids.
    pub(super) layers: BTreeMap<String, ImageLayer>,
    pub(super) index: MemoryIndex,
    pub(super) dir: ImageDir,
    /// Its memory, if that is here and not packed.
    pub(super) image: Option<Arc<Image>>,
}

/// Reads and checks the image at `path`, and opens the disks and whatever else its devices have on the host, or what
/// `overrides` name in their place. Creates nothing, and reads nothing of guest memory.
///
/// # Errors
/// As [`read`]; or the image needs something that this host does not have.
pub fn plan(path: &Path, overrides: &DeviceOverrides) -> Result<Plan, Error> {
    let mut contents = read(path)?;
    let host = contents.check_host()?;
    let (virtio, layers) = (std::mem::take(&mut contents.virtio), std::mem::take(&mut contents.layers));
    let virtio = virtio.open(layers, overrides).map_err(Error::Virtio)?;
    Ok(Plan { contents, host, virtio, prefetch: true, recording: None })
}

/// Reads and checks all that the image at `path` says, but not whether this host can run it.
///
/// # Errors
/// It is not an image, damaged, of a version that this build does not read, or contradicts itself.
pub fn read(path: &Path) -> Result<Contents, Error> {
    let dir = ImageDir::open(path).map_err(Error::Directory)?;
    let damaged = |source| Error::State { path: path.to_owned(), source };
    let mut state = StateReader::parse(dir.state()).map_err(damaged)?;
    let manifest: ManifestState = state.take("manifest").map_err(damaged)?;
    check_count(path, manifest.vcpus)?;
    let host_check = state.contains("host-check").then(|| state.take("host-check").map_err(damaged));
    let host_check = host_check.transpose()?;
    let memory: MemoryState = state.take("memory").map_err(damaged)?;
    let clock = state.take("clock").map_err(damaged)?;
    let chipset = state.take("chipset").map_err(damaged)?;
    let vcpus = (0..manifest.vcpus).map(|id| state.take(&format!("vcpu:{id}")).map_err(damaged));
    let vcpus = vcpus.collect::<Result<Vec<VcpuState>, _>>()?;
    let devices = DeviceSetState::read(&mut state).map_err(damaged)?;
    let virtio = VirtioSetState::read(&mut state).map_err(damaged)?;
    let overlays = virtio.overlays().map(|(id, len)| {
        let overlay = state.take(&format!("overlay:{id}")).map_err(damaged)?;
        Ok((id.to_owned(), layer(&dir, id, len, overlay)?))
    });
    let layers = overlays.collect::<Result<_, Error>>()?;
    state.finish().map_err(damaged)?;

    check_vcpus(path, &manifest, &vcpus)?;
    let unusable = |source| Error::Memory { path: path.to_owned(), source };
    let index = MemoryIndex::try_from(memory).map_err(unusable)?;
    check_layout(path, &manifest, &index)?;
    let image = if dir.has_memory() { Some(open_memory(&dir, &index)?) } else { None };
    let path = path.to_owned();
    Ok(Contents {
        path,
        manifest,
        host_check,
        clock,
        chipset,
        vcpus,
        devices,
        virtio,
        layers,
        index,
        dir,
        image,
    })
}

fn open_memory(dir: &ImageDir, index: &MemoryIndex) -> Result<Arc<Image>, Error> {
    let unusable = |source| Error::Memory { path: dir.path().to_owned(), source };
    index.check_len(dir.memory_len().map_err(Error::Directory)?).map_err(unusable)?;
    let file = dir.memory().map_err(Error::Directory)?.try_clone();
    let file = file.map_err(|source| unusable(snapshot_format::pages::Error::Read { offset: 0, source }))?;
    Ok(Arc::new(Image::new(file, index.clone())))
}

/// What the image has of one overlay: its file is there and as long as the disk.
fn layer(dir: &ImageDir, id: &str, len: u64, state: OverlayState) -> Result<ImageLayer, Error> {
    let path = dir.path();
    let unusable = |source| Error::Disk { path: path.to_owned(), id: id.to_owned(), source };
    let index = OverlayIndex::try_from(state).map_err(unusable)?;
    if index.disk_bytes() != len {
        let problem = format!("disk `{id}` has {len} bytes, its overlay {}", index.disk_bytes());
        return Err(contradiction(path, problem));
    }
    let name = part_name(id);
    let part = dir.part(&name).map_err(Error::Directory)?;
    let file =
        part.ok_or_else(|| Error::Directory(dir::Error::MissingPart { path: path.to_owned(), part: name }))?;
    index.check_len(&file).map_err(unusable)?;
    Ok(ImageLayer { file, index })
}

fn contradiction(path: &Path, problem: String) -> Error {
    Error::Contradiction { path: path.to_owned(), problem }
}

fn check_count(path: &Path, vcpus: u32) -> Result<(), Error> {
    if (1..=MAX_CPUS).contains(&vcpus) {
        return Ok(());
    }
    Err(contradiction(path, format!("the manifest counts {vcpus} vCPUs where 1 to {MAX_CPUS} are possible")))
}

fn check_vcpus(path: &Path, manifest: &ManifestState, vcpus: &[VcpuState]) -> Result<(), Error> {
    for (id, vcpu) in (0..).zip(vcpus) {
        if vcpu.id != id {
            return Err(contradiction(path, format!("section `vcpu:{id}` holds vCPU {}", vcpu.id)));
        }
        // KVM would take 0 for "as the host's".
        if vcpu.tsc.khz == 0 {
            return Err(contradiction(path, format!("vCPU {id} has a TSC that stands still")));
        }
        if vcpu.tsc.khz != manifest.host.tsc_khz {
            let problem = format!(
                "vCPU {id} runs at {} kHz, the manifest says {}",
                vcpu.tsc.khz, manifest.host.tsc_khz
            );
            return Err(contradiction(path, problem));
        }
    }
    Ok(())
}

/// Guest RAM of a given size has one layout, and memory anywhere else would lie over the LAPIC or the chipset.
fn check_layout(path: &Path, manifest: &ManifestState, index: &MemoryIndex) -> Result<(), Error> {
    let layout = RamLayout::new(manifest.memory_bytes);
    let layout =
        layout.map_err(|e| contradiction(path, format!("the manifest's memory size is impossible: {e}")))?;
    let expected = layout.regions().into_iter().map(|region| (region.base, region.len));
    let found = index.regions().iter().map(|region| (region.guest().get(), region.pages().bytes()));
    if expected.eq(found) {
        return Ok(());
    }
    Err(contradiction(
        path,
        format!("{} bytes of guest memory do not lie as the page index says", manifest.memory_bytes),
    ))
}

impl Contents {
    /// What the image says of itself.
    pub fn manifest(&self) -> &ManifestState {
        &self.manifest
    }

    /// The image's memory.
    ///
    /// # Errors
    /// It is elsewhere, or packed.
    pub(super) fn image(&self) -> Result<&Arc<Image>, Error> {
        let absent = || dir::Error::MissingPart { path: self.path.clone(), part: dir::MEMORY.to_owned() };
        self.image.as_ref().ok_or_else(|| Error::Directory(self.dir.memory().err().unwrap_or_else(absent)))
    }

    /// What of it is here. A pack that cannot be read is as good as none: its server says why.
    pub(super) fn memory_here(&self) -> lazy::Here {
        if let Some(image) = &self.image {
            return lazy::Here::File(Arc::clone(image));
        }
        let pack = self.dir.part(dir::MEMORY_PACK).ok().flatten();
        let index = pack.and_then(|pack| PackIndex::read(&pack).ok());
        let is_ours =
            |index: &PackIndex| index.check_image(self.manifest.image_id, self.index.file_pages()).is_ok();
        index.filter(is_ours).map_or(lazy::Here::Nothing, lazy::Here::Pack)
    }

    /// Compares all of the image's memory with its checksums, and says how many bytes of it are data.
    pub fn verify_memory(&self) -> Result<u64, Error> {
        verify(self.image()?.file(), &self.index)
            .map_err(|source| Error::Memory { path: self.path.clone(), source })?;
        Ok(self.index.data_pages() * PAGE_BYTES)
    }

    /// Compares what guests have written over bases with its checksums, and says how many bytes of it are data.
    pub fn verify_disks(&self) -> Result<u64, Error> {
        let mut data = 0;
        for (id, ImageLayer { file, index }) in &self.layers {
            let unusable = |source| Error::Disk { path: self.path.clone(), id: id.clone(), source };
            index.verify(file).map_err(unusable)?;
            data += index.data_bytes();
        }
        Ok(data)
    }
}
