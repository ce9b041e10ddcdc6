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
    restored_exactly(state, shift).0
}

/// And whether its TSC is exact.
fn restored_exactly(state: &VcpuState, shift: &TimeShift) -> (Recorder, bool) {
    let fd = Recorder::default();
    let outcome = restore::restore(&fd, state, shift).unwrap();
    (fd, outcome.exact_tsc)
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
    save::save(&fd, 0, &[0x174], None).unwrap();
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
    let (by_offset, exact) = restored_exactly(&state, &TimeShift::between(&clock, &now));
    assert!(exact);
    // 1000 ns at 2 GHz are 2000 cycles: host 9900 plus the offset must be 7000.
    assert_eq!(9_900u64.wrapping_add(by_offset.offset()), 7_000);
    assert_eq!(by_offset.msr(msr::TSC), None);

    let unstable = kvm_clock_data { flags: 0, ..now };
    let (by_value, exact) = restored_exactly(&state, &TimeShift::between(&clock, &unstable));
    assert_eq!((by_value.msr(msr::TSC), exact), (Some(7_000), false));

    // A TSC that is scaled runs at another frequency than the host's, whose difference says nothing.
    let scaling = Recorder { khz: 1_000_000, scales_tsc: true, ..Recorder::default() };
    let outcome = restore::restore(&scaling, &state, &TimeShift::between(&clock, &now)).unwrap();
    assert_eq!((scaling.msr(msr::TSC), outcome.exact_tsc), (Some(7_000), false));
}

#[test]
fn a_refused_msr_that_was_0_is_done_without_unless_it_is_something_else_here() {
    let mut state = saved();
    let unknown = [0x6A0, 0x6A2, 0x1234].map(|index| MsrState { index, data: 0 });
    state.msrs.splice(1..1, unknown);
    let refuses = vec![0x6A0, 0x6A2, 0x1234];
    let fd = Recorder { refuses: refuses.clone(), ..Recorder::default() };
    let outcome = restore::restore(&fd, &state, &no_time()).unwrap();
    assert_eq!(outcome.without, refuses);
    // What comes after it is set all the same.
    assert_eq!((fd.msr(0x174), fd.msr(0xC000_0102)), (Some(1), Some(2)));
    // What this host does without is not asked of it at the next snapshot.
    let next = msr::to_save_again(state.msrs.iter().map(|msr| msr.index).filter(|i| !refuses.contains(i)));
    assert_eq!(next, [0x174, 0x1D9, 0xC000_0102]);

    let fd = Recorder { refuses, ..Recorder::default() };
    fd.begins_with(0x6A2, 7);
    let refused = restore::restore(&fd, &state, &no_time()).unwrap_err();
    assert!(matches!(refused, Error::MsrRefused { index: 0x6A2, data: 0, vcpu: 0 }), "{refused}");
}

#[test]
fn debug_control_is_neither_saved_nor_written_while_it_is_0() {
    const DEBUGCTL: u32 = 0x1D9;
    let fd = Recorder::default();
    assert_eq!(
        save::save(&fd, 0, &[0x174, DEBUGCTL], None).unwrap().msrs,
        [MsrState { index: 0x174, data: 0 }]
    );
    fd.begins_with(DEBUGCTL, 2);
    let with = save::save(&fd, 0, &[0x174, DEBUGCTL], None).unwrap();
    assert!(with.msrs.contains(&MsrState { index: DEBUGCTL, data: 2 }));
    assert_eq!(restored(&VcpuState { msrs: with.msrs, ..saved() }, &no_time()).msr(DEBUGCTL), Some(2));
    // As builds saved it that did not leave it out.
    let older = VcpuState { msrs: vec![MsrState { index: DEBUGCTL, data: 0 }], ..saved() };
    assert_eq!(restored(&older, &no_time()).msr(DEBUGCTL), None);
    // A host may not have it at all.
    let fd = Recorder { unreadable: vec![DEBUGCTL], ..Recorder::default() };
    save::save(&fd, 0, &[0x174, DEBUGCTL], None).unwrap();
    let fd = Recorder { unreadable: vec![0x174], ..Recorder::default() };
    save::save(&fd, 0, &[0x174, DEBUGCTL], None).unwrap_err();
}

#[test]
fn a_guest_keeps_the_frequency_that_it_booted_with_over_all_generations() {
    let mut khz = 2_000_000;
    let mut state = saved();
    // Each host is 200 ppm faster than the one before: the second is still near enough to the first.
    let (mut host, mut generations) = (khz, 0);
    let refused = loop {
        host += host / 5000;
        let fd = Recorder { khz: host, ..Recorder::default() };
        if let Err(refused) = restore::restore(&fd, &state, &no_time()) {
            break refused;
        }
        khz = save::save(&fd, 0, &[0x174], Some(state.tsc.khz)).unwrap().tsc.khz;
        state.tsc.khz = khz;
        generations += 1;
        assert!(generations < 10, "the guest's clock has gone {host} kHz, by and by");
    };
    assert!(matches!(refused, Error::TscFrequency { guest: 2_000_000, .. }), "{refused}");
    assert_eq!((khz, generations), (2_000_000, 1));
    // Booted here, it has what this host says.
    let fd = Recorder { khz: 3_000_000, ..Recorder::default() };
    assert_eq!(save::save(&fd, 0, &[0x174], None).unwrap().tsc.khz, 3_000_000);
}

#[test]
fn a_refused_msr_is_named() {
    let fd = Recorder { refuses: vec![0xC000_0102], ..Recorder::default() };
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
