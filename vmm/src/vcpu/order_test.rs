//! The constraints on the order of calls, each as "A before B"; what they leave free is free.

use kvm_bindings::kvm_clock_data;
use snapshot_format::codec::Blob;
use snapshot_format::state::{ClockState, MsrState, VcpuState};

use super::recorder::{Recorder, set_tsc};
use super::{Error, restore, save};
use crate::arch::x86_64::msr;
use crate::clock::TimeShift;

const STABLE: u32 = 0b1110;

fn saved() -> VcpuState {
    let mut state = VcpuState {
        xsave: Blob(vec![0; 4096]),
        lapic: Blob(vec![0; 1024]),
        tsc_deadline: 77,
        msrs: vec![MsrState { index: 0x174, data: 1 }, MsrState { index: 0xC000_0102, data: 2 }],
        ..VcpuState::default()
    };
    state.tsc.khz = 2_000_000;
    state
}

fn no_time() -> TimeShift {
    TimeShift::between(&ClockState::default(), &kvm_clock_data::default())
}

fn restored(state: &VcpuState, shift: &TimeShift) -> Recorder {
    let fd = Recorder::default();
    restore::restore(&fd, state, shift).unwrap();
    fd
}

#[test]
fn restore_keeps_its_constraints() {
    let fd = restored(&saved(), &no_time());
    let deadline = format!("set msr {:#x}", msr::TSC_DEADLINE);
    let tsc = set_tsc();
    for (first, later, because) in [
        ("set cpuid", "set sregs", "CPUID decides which bits of CR4 and EFER are taken"),
        ("set cpuid", "set xcrs", "CPUID decides which bits of XCR0 are taken"),
        ("set cpuid", "set xsave", "CPUID decides which components are taken"),
        ("set cpuid", "set msr 0x174", "CPUID decides which MSRs exist"),
        ("set cpuid", "set lapic", "CPUID decides about x2APIC"),
        ("set regs", "set events", "KVM_SET_REGS drops a pending exception"),
        ("set sregs", "set events", "KVM_SET_SREGS queues the interrupt of its bitmap"),
        ("set sregs", "set mp_state", "KVM_SET_SREGS may take a boot processor for one that was reset"),
        ("set sregs", "set lapic", "APIC_BASE says how the register page is read"),
        ("set xcrs", "set xsave", "components outside XCR0 could not have been in use"),
        (&tsc, &deadline, "the deadline is measured against the TSC when it is written"),
        ("set lapic", &deadline, "outside of deadline mode the deadline is dropped"),
    ] {
        assert!(fd.position(first) < fd.position(later), "`{first}` before `{later}`: {because}");
    }
}

#[test]
fn save_keeps_its_constraints() {
    let fd = Recorder::default();
    save::save(&fd, 0, &[0x174]).unwrap();
    let deadline = format!("get msr {:#x}", msr::TSC_DEADLINE);
    for (first, later, because) in [
        ("get mp_state", "get regs", "reading it may act on INIT or SIPI"),
        ("get mp_state", "get sregs", "reading it may act on INIT or SIPI"),
        ("get mp_state", "get events", "reading it may act on INIT or SIPI"),
        ("get events", "get sregs", "reading them may put a payload into CR2"),
        ("get events", "get debugregs", "reading them may put a payload into DR6"),
        (&deadline, "get lapic", "a deadline that passes in between must be found in one of them"),
    ] {
        assert!(fd.position(first) < fd.position(later), "`{first}` before `{later}`: {because}");
    }
}

#[test]
fn a_deadline_that_is_not_armed_is_not_written() {
    let fd = restored(&VcpuState { tsc_deadline: 0, ..saved() }, &no_time());
    assert_eq!(fd.msr(msr::TSC_DEADLINE), None);
}

#[test]
fn the_tsc_is_set_by_offset_where_both_kernels_can_and_by_value_elsewhere() {
    let mut state = saved();
    state.tsc.value = 5_000;
    state.tsc.offset = 100;
    state.tsc.has_offset = true;

    let clock = ClockState { flags: STABLE, host_tsc: 4_900, ..ClockState::default() };
    let now = kvm_clock_data { clock: 1_000, flags: STABLE, host_tsc: 9_900, ..Default::default() };
    let by_offset = restored(&state, &TimeShift::between(&clock, &now));
    // 1000 ns at 2 GHz are 2000 cycles: host 9900 plus the offset must be 7000.
    assert_eq!(9_900u64.wrapping_add(by_offset.offset()), 7_000);
    assert_eq!(by_offset.msr(msr::TSC), None);

    let unstable = kvm_clock_data { flags: 0, ..now };
    let by_value = restored(&state, &TimeShift::between(&clock, &unstable));
    assert_eq!(by_value.msr(msr::TSC), Some(7_000));
}

#[test]
fn a_refused_msr_is_named() {
    let fd = Recorder { refuses: Some(0xC000_0102), ..Recorder::default() };
    let refused = restore::restore(&fd, &saved(), &no_time()).unwrap_err();
    assert!(matches!(refused, Error::MsrRefused { index: 0xC000_0102, data: 2, vcpu: 0 }), "{refused}");
}

#[test]
fn a_tsc_frequency_that_the_host_cannot_give_is_refused_and_a_small_difference_is_not() {
    let near = Recorder { khz: 2_000_400, ..Recorder::default() };
    restore::restore(&near, &saved(), &no_time()).unwrap();
    for khz in [2_600_000, 1_000_000] {
        let far = Recorder { khz, ..Recorder::default() };
        let refused = restore::restore(&far, &saved(), &no_time()).unwrap_err();
        assert!(
            matches!(refused, Error::TscFrequency { guest: 2_000_000, host } if host == khz),
            "{refused}"
        );
        let scaling = Recorder { khz, scales_tsc: true, ..Recorder::default() };
        restore::restore(&scaling, &saved(), &no_time()).unwrap();
        scaling.position("set tsc_khz");
    }
}
