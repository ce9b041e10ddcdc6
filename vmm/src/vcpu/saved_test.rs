//! What is restored reads back as what was saved, and impossible lengths are refused before KVM sees them.

use kvm_bindings::kvm_clock_data;
use snapshot_format::codec::Blob;
use snapshot_format::state::{ClockState, CpuidEntryState, MsrState, VcpuState, XcrState};
use snapshot_format::testing::samples;

use super::recorder::Recorder;
use super::{Error, restore, save};
use crate::clock::TimeShift;

fn no_time() -> TimeShift {
    TimeShift::between(&ClockState::default(), &kvm_clock_data::default())
}

/// A sample with a different value in every field, and the lengths that a real vCPU has.
fn sample() -> VcpuState {
    let mut state = samples::vcpu(3);
    state.xsave = Blob((0..4096 + 512u32).map(|i| (i * 7) as u8).collect());
    state.lapic = Blob((0..1024u32).map(|i| (i * 3) as u8).collect());
    state.tsc.khz = 2_000_000;
    state.tsc.has_offset = true;
    state.tsc.offset = 0;
    state
}

#[test]
fn every_field_makes_the_round_trip() {
    let state = sample();
    let fd = Recorder { has_tsc_offset: true, ..Recorder::default() };
    restore::restore(&fd, &state, &no_time()).unwrap();
    let msrs: Vec<u32> = state.msrs.iter().map(|msr| msr.index).collect();
    let again = save::save(&fd, state.id, &msrs, None).unwrap();
    assert_eq!(again, state);
}

#[test]
fn impossible_lengths_are_refused_by_field() {
    type Spoil = fn(&mut VcpuState);
    let cases: [(&str, Spoil); 8] = [
        ("xsave", |s| s.xsave.0.truncate(4095)),
        ("xsave", |s| s.xsave.0.resize(4096 + 2049, 0)),
        ("xsave", |s| s.xsave.0.clear()),
        ("lapic", |s| s.lapic.0.truncate(1023)),
        ("lapic", |s| s.lapic.0.push(0)),
        ("xcrs", |s| s.xcrs = vec![XcrState::default(); 17]),
        ("cpuid", |s| s.cpuid = vec![CpuidEntryState::default(); 100_000]),
        ("msrs", |s| s.msrs = vec![MsrState::default(); 4097]),
    ];
    for (field, spoil) in cases {
        let mut state = sample();
        spoil(&mut state);
        let fd = Recorder::default();
        let refused = restore::restore(&fd, &state, &no_time()).unwrap_err();
        assert!(
            matches!(refused, Error::Impossible { field: f, vcpu: 3, .. } if f == field),
            "{field}: {refused}"
        );
        assert!(fd.calls().is_empty(), "{field}: refused before KVM was asked anything");
    }
}
