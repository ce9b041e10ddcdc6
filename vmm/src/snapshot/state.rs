//! Everything but memory: collected from the machine at rest, encoded later.

use snapshot_format::state::{
    ChipsetState, ClockState, HostCheckState, HostNeedsState, ManifestState, VcpuState,
};
use snapshot_format::{Architecture, MemoryIndex, StateWriter};

use super::{Error, disks};
use crate::arch::x86_64::cpuid;
use crate::clock;
use crate::device::DeviceSetState;
use crate::device::virtio::VirtioSetState;
use crate::lifecycle::Quiesced;
use crate::machine::host_check::{self, HostId};
use crate::machine::{Frame, GuestFacts, KvmKind, PausedVm};

/// The saved state of everything but memory.
#[derive(Debug)]
pub(super) struct Collected {
    clock: ClockState,
    chipset: ChipsetState,
    vcpus: Vec<VcpuState>,
    devices: DeviceSetState,
    virtio: VirtioSetState,
    facts: GuestFacts,
    host: HostNeedsState,
    host_check: Option<HostCheckState>,
    created_ns: u64,
}

/// Collects it, in an order that has reasons:
///
/// - The clock first: between it and the vCPUs' TSCs lies the error of guest time, some tens of microseconds.
/// - The chipset before the vCPUs: see [`crate::irq::Chipset::save`].
/// - Devices last: they are quiesced, and what they pulse now is in the chipset or is raised again at the restore.
pub(super) fn collect(vm: &PausedVm, at_rest: &Quiesced<'_>) -> Result<Collected, Error> {
    let clock = clock::capture(vm.vm(), at_rest).map_err(Error::Clock)?;
    let chipset = vm.chipset().save(vm.vm(), at_rest).map_err(Error::Chipset)?;
    let vcpus = vm.vcpus().iter().map(|vcpu| vcpu.save(at_rest).map_err(Error::Vcpu));
    let vcpus = vcpus.collect::<Result<Vec<_>, _>>()?;
    let devices = vm.devices().save(at_rest);
    let virtio = vm.virtio().save(at_rest);
    let (host, host_check) = host_needs(vm, &vcpus)?;
    Ok(Collected {
        clock,
        chipset,
        vcpus,
        devices,
        virtio,
        facts: vm.facts().clone(),
        host,
        host_check,
        created_ns: clock::realtime_ns(),
    })
}

/// What a host must have to take this state, and that this one has it. vCPUs are alike but for their APIC ids, so the
/// first speaks for all.
fn host_needs(vm: &PausedVm, vcpus: &[VcpuState]) -> Result<(HostNeedsState, Option<HostCheckState>), Error> {
    let shown = vm.vcpus().first().map(|vcpu| vcpu.cpuid().map_err(Error::Vcpu)).transpose()?;
    let host = cpuid::remembered(cpuid::host);
    let cpuid = shown.map(|shown| cpuid::required_words(shown.as_slice(), &host));
    let kind = KvmKind::detect();
    let needs = HostNeedsState {
        cpu_vendor: cpuid::vendor(&host),
        kvm_kind: kind.name().to_owned(),
        cpuid: cpuid.unwrap_or_default(),
        kvm_caps: Frame::event_capabilities(vm.vm()),
        tsc_khz: vcpus.first().map_or(0, |vcpu| vcpu.tsc.khz),
        xsave_bytes: u32::try_from(vm.xsave_bytes()).unwrap_or(u32::MAX),
    };
    let met = HostId::here(kind, &host).map(|here| host_check::digest_of(&here, &needs, vcpus));
    Ok((needs, met))
}

impl Collected {
    /// The bytes of the image's `state` file.
    pub(super) fn encode(self, index: &MemoryIndex, overlays: &[disks::Copied]) -> Result<Vec<u8>, Error> {
        let manifest = self.manifest(index);
        let Self { clock, chipset, vcpus, devices, virtio, facts: _, host: _, host_check, created_ns: _ } =
            self;
        let mut state = StateWriter::new(Architecture::X86_64);
        state.add("manifest", &manifest).map_err(Error::Encode)?;
        if let Some(met) = host_check {
            state.add("host-check", &met).map_err(Error::Encode)?;
        }
        state.add("memory", &index.to_state()).map_err(Error::Encode)?;
        state.add("clock", &clock).map_err(Error::Encode)?;
        state.add("chipset", &chipset).map_err(Error::Encode)?;
        for vcpu in &vcpus {
            state.add(&format!("vcpu:{}", vcpu.id), vcpu).map_err(Error::Encode)?;
        }
        devices.write(&mut state).map_err(Error::Encode)?;
        virtio.write(&mut state).map_err(Error::Encode)?;
        for (id, overlay) in overlays {
            state.add(&format!("overlay:{id}"), &overlay.to_state()).map_err(Error::Encode)?;
        }
        state.finish().map_err(Error::Encode)
    }

    fn manifest(&self, index: &MemoryIndex) -> ManifestState {
        ManifestState {
            image_id: self.image_id(index),
            parent_id: self.facts.parent_id,
            generation: self.facts.generation.saturating_add(1),
            created_ns: self.created_ns,
            written_by: concat!("rekindle ", env!("CARGO_PKG_VERSION")).to_owned(),
            guest: self.facts.guest.clone(),
            cmdline: self.facts.cmdline.clone(),
            vcpus: u32::try_from(self.vcpus.len()).unwrap_or(u32::MAX),
            memory_bytes: index.guest_bytes(),
            host: self.host.clone(),
        }
    }

    /// Tells this image from every other: a digest of its memory, its registers and its moment. Not random, so that
    /// no randomness is used outside of what gives clones their identity.
    fn image_id(&self, index: &MemoryIndex) -> [u8; 16] {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.created_ns.to_le_bytes());
        bytes.extend_from_slice(&std::process::id().to_le_bytes());
        bytes.extend_from_slice(&self.facts.parent_id);
        for vcpu in &self.vcpus {
            for word in [vcpu.regs.rip, vcpu.regs.rsp, vcpu.regs.rax, vcpu.tsc.value] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        for sum in index.chunk_sums() {
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        snapshot_format::pages::digest(&bytes)
    }
}
