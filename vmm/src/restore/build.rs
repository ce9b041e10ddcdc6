//! The phases of building a machine from a plan.

use std::time::Duration;

use snapshot_format::state::{ChipsetState, ClockState, ManifestState, VcpuState};

use super::Error;
use crate::clock::{self, TimeShift};
use crate::device::virtio::{SavedParts, VirtioSet};
use crate::device::{DeviceSet, DeviceSetState};
use crate::machine::{Connections, Frame, GuestFacts, Host, Parts, PausedVm};
use crate::memory::Memory;
use crate::vcpu::{Blank, Restored, Vcpu};

pub(super) fn frame(host: &Host, memory: Memory) -> Result<Frame, Error> {
    Frame::create(host, memory).map_err(Error::Machine)
}

pub(super) fn clock(frame: &Frame, saved: &ClockState, vcpus: &[VcpuState]) -> Result<TimeShift, Error> {
    clock::restore(&frame.vm, saved, clock::most(vcpus)).map_err(Error::Clock)
}

pub(super) fn blank_vcpus(frame: &Frame, saved: &[VcpuState]) -> Result<Vec<Blank>, Error> {
    let create = |saved: &VcpuState| Blank::create(&frame.vm, saved.id, frame.traits).map_err(Error::Vcpu);
    saved.iter().map(create).collect()
}

/// The vCPUs as they were saved, and whether all their TSCs are exact.
pub(super) fn vcpus(
    blank: Vec<Blank>,
    saved: &[VcpuState],
    shift: &TimeShift,
) -> Result<(Vec<Vcpu>, bool), Error> {
    let restore = |(blank, saved): (Blank, _)| blank.restore(saved, shift).map_err(Error::Vcpu);
    let restored = blank.into_iter().zip(saved).map(restore).collect::<Result<Vec<Restored>, _>>()?;
    let exact = restored.iter().all(|restored| restored.exact_tsc);
    Ok((restored.into_iter().map(|restored| restored.vcpu).collect(), exact))
}

pub(super) fn chipset(frame: &Frame, saved: &ChipsetState) -> Result<(), Error> {
    frame.chipset.set(&frame.vm, saved).map_err(Error::Chipset)
}

pub(super) fn virtio(frame: &Frame, saved: SavedParts) -> Result<VirtioSet, Error> {
    VirtioSet::restore(saved, frame.memory.ram()).map_err(Error::Virtio)
}

/// Binds the devices' lines and doorbells.
pub(super) fn lines(frame: &Frame, connections: &Connections, virtio: &VirtioSet) -> Result<(), Error> {
    frame.bind(&connections.wiring.lines()).map_err(Error::Machine)?;
    frame.bind(&virtio.lines()).map_err(Error::Machine)?;
    frame.ring(&virtio.doorbells()).map_err(Error::Machine)
}

pub(super) fn machine(
    frame: Frame,
    vcpus: Vec<Vcpu>,
    (manifest, devices): (ManifestState, DeviceSetState),
    connections: Connections,
    virtio: VirtioSet,
    away: Duration,
) -> Result<PausedVm, Error> {
    let Connections { wiring, stop } = connections;
    let devices = DeviceSet::restore(devices, wiring, frame.memory.ram()).map_err(Error::Device)?;
    let shared = Frame::share(&devices, &virtio, stop).map_err(Error::Machine)?;
    // The first of all: the guest is to know that it is another one before it is told anything else.
    frame.pulse(devices.identity_gsi()).map_err(Error::Machine)?;
    devices.raise_pending();
    virtio.raise_pending();
    let facts = GuestFacts {
        guest: manifest.guest,
        cmdline: manifest.cmdline,
        generation: manifest.generation,
        parent_id: manifest.image_id,
    };
    Ok(PausedVm::new(vcpus, Parts { frame, devices, virtio, shared, facts }, Some(away)))
}
