//! A vCPU that stands still becomes a [`VcpuState`]: one call per line, in an order that has reasons.
//!
//! - Every exit is completed before anything is read, because a port or MMIO read that user space has answered is
//!   still only in the `kvm_run` page (`complete_userspace_io`); [`super::run`] does that before it hands the vCPU back.
//! - MP state before everything else, because reading it handles a pending INIT or SIPI
//!   (`kvm_arch_vcpu_ioctl_get_mpstate` calls `kvm_apic_accept_events`), which resets registers.
//! - Events before system and debug registers, because reading them may move the payload of a pending exception into
//!   CR2 or DR6 (`kvm_vcpu_ioctl_x86_get_vcpu_events` calls `kvm_handle_exception_payload_quirk`).
//! - `IA32_TSC_DEADLINE` before the LAPIC, because where the host posts timer interrupts a deadline that passes
//!   between the two zeroes the one and sets an IRR bit in the other (`kvm_apic_inject_pending_timer_irqs`): read the
//!   other way round, it would be in neither, and the guest would wait for ever. Found in both, it comes twice.
//!
//! Elsewhere a LAPIC timer that expires while the vCPU stands still is only counted (`apic_timer_expired`), and the
//! count is not part of any state that KVM gives out. Nothing is lost with it: a deadline stays set and, being past,
//! fires when it is restored; a one-shot timer reads as 0 and is armed to fire at once (`set_target_expiration`), at
//! worst once more than it should; of a periodic timer one tick is skipped, as if it had come late.
//!
//! The chipset is saved before the vCPUs, so that an interrupt the 8254 raises meanwhile is in a LAPIC or nowhere.

use snapshot_format::state::{TscState, VcpuState};

use super::{Error, Vcpu, VcpuFd, saved};
use crate::arch::x86_64::msr;
use crate::lifecycle::Quiesced;

impl Vcpu {
    /// Everything KVM knows of this vCPU.
    pub fn save(&self, _at_rest: &Quiesced<'_>) -> Result<VcpuState, Error> {
        save(&self.fd, self.id, &self.msrs, self.tsc_khz)
    }
}

/// `booted_khz` is the frequency that the TSC had when the guest booted, if that was on another host: what hosts differ in and
/// is tolerated (`restore::TSC_TOLERANCE_PPM`) must not add up over generations.
pub(super) fn save(
    fd: &impl VcpuFd,
    id: u32,
    msrs: &[u32],
    booted_khz: Option<u32>,
) -> Result<VcpuState, Error> {
    let cannot = |call| move |source| Error::Ioctl { call, vcpu: id, source };

    let mp_state = fd.mp_state().map_err(cannot("read the MP state"))?;
    let events = fd.events().map_err(cannot("read the pending events"))?;
    let regs = fd.regs().map_err(cannot("read the registers"))?;
    let sregs = fd.sregs().map_err(cannot("read the system registers"))?;
    let debugregs = fd.debugregs().map_err(cannot("read the debug registers"))?;
    let xsave = fd.xsave().map_err(cannot("read the XSAVE area"))?;
    let xcrs = fd.xcrs().map_err(cannot("read the extended control registers"))?;
    let cpuid = fd.cpuid().map_err(cannot("read the CPUID"))?;
    let tsc_khz = fd.tsc_khz().map_err(cannot("read the TSC frequency"))?;
    let tsc_offset = fd.tsc_offset().map_err(cannot("read the TSC offset"))?;
    let tsc_value = one_msr(fd, msr::TSC).map_err(cannot("read the TSC"))?;
    let msr_values = fd.msrs(msrs).map_err(cannot("read the MSRs"))?;
    let tsc_deadline = one_msr(fd, msr::TSC_DEADLINE).map_err(cannot("read the TSC deadline"))?;
    let lapic = fd.lapic().map_err(cannot("read the LAPIC"))?;

    let is_missing = |index: u32| !msr_values.iter().any(|msr| msr.index == index);
    if let Some(missing) = msrs.iter().find(|&&index| !msr::is_optional(index) && is_missing(index)) {
        return Err(Error::Impossible {
            vcpu: id,
            field: "msrs",
            problem: format!("lacks MSR {missing:#x}, which was readable before"),
        });
    }
    Ok(VcpuState {
        id,
        mp_state: mp_state.mp_state,
        cpuid: saved::cpuid(&cpuid),
        regs: saved::regs(&regs),
        sregs: saved::sregs(&sregs),
        xsave: saved::blob(xsave),
        xcrs: saved::xcrs(&xcrs),
        debugregs: saved::debugregs(&debugregs),
        lapic: saved::lapic(&lapic),
        events: saved::events(&events),
        tsc: TscState {
            value: tsc_value.unwrap_or(0),
            offset: tsc_offset.unwrap_or(0),
            has_offset: tsc_offset.is_some(),
            khz: booted_khz.unwrap_or(tsc_khz),
        },
        msrs: saved::msrs(&msr_values),
        tsc_deadline: tsc_deadline.unwrap_or(0),
    })
}

fn one_msr(fd: &impl VcpuFd, index: u32) -> std::io::Result<Option<u64>> {
    Ok(fd.msrs(&[index])?.first().map(|msr| msr.data))
}
