use super::*;

const MASTER: u32 = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;

fn saved(flags: u32) -> ClockState {
    ClockState {
        kvmclock_ns: 5_000_000_000,
        flags,
        realtime_ns: 1_000_000_000_000,
        host_tsc: 900_000,
        vmm_realtime_ns: 1_000_000_000_500,
    }
}

fn tsc() -> TscState {
    TscState { value: 50_000, offset: 0u64.wrapping_sub(850_000), has_offset: true, khz: 2_000_000 }
}

fn kvmclock(clock: u64, flags: u32, host_tsc: u64) -> kvm_clock_data {
    kvm_clock_data { clock, flags, host_tsc, ..Default::default() }
}

#[test]
fn the_kernel_is_given_the_instant_of_the_save_where_it_can_add_the_rest() {
    let given = target(&saved(MASTER), true, 1_000_000_000_001, MAX_AT_WORK);
    assert_eq!(
        (given.clock, given.flags, given.realtime),
        (5_000_000_000, KVM_CLOCK_REALTIME, 1_000_000_000_000)
    );
    // Without a stable TSC the kernel gave no realtime: the VMM's own reading stands in.
    assert_eq!(target(&saved(0), true, 0, MAX_AT_WORK).realtime, 1_000_000_000_500);
}

#[test]
fn an_old_kernel_gets_the_sum_and_time_never_goes_back() {
    let later = target(&saved(MASTER), false, 1_000_000_000_000 + 7, MAX_AT_WORK);
    assert_eq!((later.clock, later.flags), (5_000_000_007, 0));
    let host_clock_set_back = target(&saved(MASTER), false, 3, MAX_AT_WORK);
    assert_eq!(host_clock_set_back.clock, 5_000_000_000);
}

#[test]
fn time_of_a_guest_at_work_is_advanced_by_an_hour_at_most() {
    let hour = MAX_AT_WORK.as_nanos() as u64;
    for kernel_adds in [true, false] {
        let month_later = target(&saved(MASTER), kernel_adds, 1_000_000_000_000 + 720 * hour, MAX_AT_WORK);
        assert_eq!((month_later.clock, month_later.flags), (5_000_000_000 + hour, 0));
    }
    let idle = target(&saved(MASTER), true, 1_000_000_000_000 + 720 * hour, Duration::MAX);
    assert_eq!((idle.clock, idle.flags), (5_000_000_000, KVM_CLOCK_REALTIME));
    let by_us = target(&saved(MASTER), false, 1_000_000_000_000 + 720 * hour, Duration::MAX);
    assert_eq!((by_us.clock, by_us.flags), (5_000_000_000 + 720 * hour, 0));
    // Just short of an hour the kernel still adds it all, at the instant of the call.
    let within = target(&saved(MASTER), true, 1_000_000_000_000 + hour - 1, MAX_AT_WORK);
    assert_eq!((within.clock, within.flags), (5_000_000_000, KVM_CLOCK_REALTIME));
}

#[test]
fn a_guest_is_idle_if_no_vcpu_runs() {
    use kvm_bindings::{KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED};
    let most_of = |states: &[u32]| {
        let vcpu = |&mp_state| VcpuState { mp_state, ..Default::default() };
        most(&states.iter().map(vcpu).collect::<Vec<_>>())
    };
    assert_eq!(most_of(&[KVM_MP_STATE_HALTED, KVM_MP_STATE_UNINITIALIZED]), Duration::MAX);
    assert_eq!(most_of(&[KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE]), MAX_AT_WORK);
    assert_eq!(most_of(&[KVM_MP_STATE_HALTED, u32::MAX]), MAX_AT_WORK);
}

#[test]
fn the_offset_makes_the_guest_tsc_advance_by_exactly_the_elapsed_time() {
    // The host rebooted: its TSC is now far below. Two seconds of guest time have passed.
    let now = kvmclock(7_000_000_000, MASTER, 1_000);
    let TscTarget::Offset(offset) = TimeShift::between(&saved(MASTER), &now).tsc(&tsc(), false) else {
        panic!("both sides relate kvmclock to the TSC")
    };
    // At the save the guest's TSC stood at host 900_000 - 850_000 = 50_000, and 2 s are 4e9 cycles at 2 GHz.
    assert_eq!(1_000u64.wrapping_add(offset), 50_000 + 4_000_000_000);
}

#[test]
fn without_a_stable_tsc_on_either_side_or_with_scaling_the_value_is_advanced() {
    let expected = TscTarget::Value(50_000 + 4_000_000_000);
    let stable = kvmclock(7_000_000_000, MASTER, 1_000);
    let unstable = kvmclock(7_000_000_000, 0, 0);
    assert_eq!(TimeShift::between(&saved(0), &stable).tsc(&tsc(), false), expected);
    assert_eq!(TimeShift::between(&saved(MASTER), &unstable).tsc(&tsc(), false), expected);
    assert_eq!(TimeShift::between(&saved(MASTER), &stable).tsc(&tsc(), true), expected);
    let no_offset = TscState { has_offset: false, ..tsc() };
    assert_eq!(TimeShift::between(&saved(MASTER), &stable).tsc(&no_offset, false), expected);
}

#[test]
fn hostile_numbers_do_not_overflow() {
    let worst = ClockState {
        kvmclock_ns: u64::MAX,
        flags: u32::MAX,
        realtime_ns: 0,
        host_tsc: 0,
        vmm_realtime_ns: 0,
    };
    assert_eq!(target(&worst, false, u64::MAX, MAX_AT_WORK).clock, u64::MAX);
    assert_eq!(target(&worst, true, u64::MAX, MAX_AT_WORK).clock, u64::MAX);
    let shift =
        TimeShift::between(&ClockState { kvmclock_ns: 0, ..worst }, &kvmclock(u64::MAX, MASTER, u64::MAX));
    shift.tsc(&TscState { value: u64::MAX, offset: u64::MAX, has_offset: true, khz: u32::MAX }, false);
    shift.tsc(&TscState { value: u64::MAX, offset: u64::MAX, has_offset: false, khz: u32::MAX }, true);
}
