//! Images made to do harm: sealed, and full of what no machine was ever in. Refused, or run to a guest's own ruin; never
//! a panic and never a hang.

use std::time::Duration;

use rekindle_tests::patience::{SOON, in_lab, until};
use rekindle_tests::state::State;
use rekindle_tests::{Case, Image, Scratch, Vm, cases, rekindle, verbs};
use snapshot_format::codec::Blob;
use snapshot_format::state::{
    ChipsetState, ClockState, CpuidEntryState, I8042State, MsrState, RtcState, SerialState, VcpuState,
    XcrState,
};

use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "input",
        KVM,
        [
            impossible_states_are_refused,
            no_state_at_all_does_harm_to_the_host,
            no_flipped_bit_of_any_section_does_harm
        ]
    )
}

type Change = fn(State) -> State;

fn vcpu(state: State, change: impl FnOnce(&mut VcpuState)) -> State {
    state.edit("vcpu:0", change)
}

fn serial(state: State, change: impl FnOnce(&mut SerialState)) -> State {
    state.edit("serial:0", change)
}

/// What a check of ours refuses: code 3, and the name of the thing.
const REFUSED: &[(&str, Change, &[&str])] = &[
    ("short-lapic", |s| vcpu(s, |v| v.lapic = Blob(vec![0; 1023])), &["vCPU 0", "lapic", "1024"]),
    ("long-lapic", |s| vcpu(s, |v| v.lapic = Blob(vec![0; 4096])), &["vCPU 0", "lapic"]),
    ("no-lapic", |s| vcpu(s, |v| v.lapic = Blob(Vec::new())), &["vCPU 0", "lapic"]),
    ("short-xsave", |s| vcpu(s, |v| v.xsave = Blob(vec![0; 575])), &["vCPU 0", "xsave"]),
    ("long-xsave", |s| vcpu(s, |v| v.xsave = Blob(vec![0; 1 << 20])), &["vCPU 0", "xsave"]),
    ("many-cpuids", |s| vcpu(s, |v| v.cpuid = vec![CpuidEntryState::default(); 257]), &["vCPU 0", "cpuid"]),
    ("many-xcrs", |s| vcpu(s, |v| v.xcrs = vec![XcrState::default(); 17]), &["vCPU 0", "xcrs"]),
    ("many-msrs", |s| vcpu(s, |v| v.msrs = vec![MsrState::default(); 20_000]), &["vCPU 0", "msrs"]),
    ("long-fifo", |s| serial(s, |u| u.in_buffer = vec![0; 65]), &["the receive FIFO holds 65 bytes"]),
    ("uart-register", |s| serial(s, |u| u.interrupt_enable = 0xff), &["register IER cannot hold 0xff"]),
    (
        "short-cmos",
        |s| s.edit("rtc", |r: &mut RtcState| r.cmos = Blob(vec![0; 3])),
        &["cannot restore the devices"],
    ),
    (
        "long-keyboard",
        |s| s.edit("i8042", |k: &mut I8042State| k.output = vec![0; 100]),
        &["cannot restore the devices"],
    ),
];

/// What only KVM can judge: refused with code 3 or 4, or the guest runs and comes to grief by itself.
const ANYTHING: &[(&str, Change)] = &[
    ("unknown-msr", |s| vcpu(s, |v| v.msrs.push(MsrState { index: 0xdead_beef, data: 1 }))),
    ("bad-efer", |s| vcpu(s, |v| v.msrs.push(MsrState { index: 0xc000_0080, data: u64::MAX }))),
    ("nonsense-sregs", |s| {
        vcpu(s, |v| {
            (v.sregs.cr0, v.sregs.cr4, v.sregs.efer) = (u64::MAX, u64::MAX, u64::MAX);
            v.sregs.interrupt_bitmap = [u64::MAX; 4];
        })
    }),
    ("no-paging", |s| vcpu(s, |v| v.sregs.cr0 = 0)),
    ("page-tables-nowhere", |s| vcpu(s, |v| v.sregs.cr3 = 0xf_ffff_ffff_f000)),
    ("apic-elsewhere", |s| vcpu(s, |v| v.sregs.apic_base = u64::MAX)),
    ("rip-nowhere", |s| vcpu(s, |v| v.regs.rip = 0x8000_0000_0000_0000)),
    ("rflags-of-ones", |s| vcpu(s, |v| v.regs.rflags = u64::MAX)),
    ("mp-state", |s| vcpu(s, |v| v.mp_state = 77)),
    ("no-cpuid", |s| vcpu(s, |v| v.cpuid.clear())),
    ("cpuid-of-ones", |s| {
        vcpu(s, |v| {
            for entry in &mut v.cpuid {
                (entry.eax, entry.ebx, entry.ecx, entry.edx) = (u32::MAX, u32::MAX, u32::MAX, u32::MAX);
            }
        })
    }),
    ("xcr0-of-ones", |s| vcpu(s, |v| v.xcrs = vec![XcrState { xcr: 0, value: u64::MAX }])),
    ("xsave-of-ones", |s| vcpu(s, |v| v.xsave.0.fill(0xff))),
    ("lapic-of-ones", |s| vcpu(s, |v| v.lapic.0.fill(0xff))),
    ("lapic-of-zeros", |s| vcpu(s, |v| v.lapic.0.fill(0))),
    ("debug-registers", |s| vcpu(s, |v| (v.debugregs.dr7, v.debugregs.flags) = (u64::MAX, u64::MAX))),
    ("events", |s| {
        vcpu(s, |v| {
            let events = &mut v.events;
            (events.exception_injected, events.exception_nr, events.nmi_pending) = (1, 255, 255);
            (events.smi_pending, events.triple_fault_pending, events.flags) = (1, 1, u32::MAX);
        })
    }),
    ("tsc", |s| vcpu(s, |v| (v.tsc.value, v.tsc.offset) = (u64::MAX, u64::MAX))),
    ("no-frequency", |s| {
        let s = vcpu(s, |v| v.tsc.khz = 0);
        s.edit("manifest", |m: &mut snapshot_format::state::ManifestState| m.host.tsc_khz = 0)
    }),
    ("absurd-frequency", |s| {
        let s = vcpu(s, |v| v.tsc.khz = u32::MAX);
        s.edit("manifest", |m: &mut snapshot_format::state::ManifestState| m.host.tsc_khz = u32::MAX)
    }),
    ("deadline", |s| vcpu(s, |v| v.tsc_deadline = 1)),
    ("kvmclock-of-ones", |s| s.edit("clock", |c: &mut ClockState| c.kvmclock_ns = u64::MAX)),
    ("clock-of-1970", |s| {
        s.edit("clock", |c: &mut ClockState| (c.realtime_ns, c.vmm_realtime_ns, c.host_tsc) = (0, 0, 0))
    }),
    ("clock-flags", |s| s.edit("clock", |c: &mut ClockState| c.flags = u32::MAX)),
    ("rtc-offset", |s| s.edit("rtc", |r: &mut RtcState| r.offset_seconds = i64::MIN)),
    ("pit-of-ones", |s| {
        s.edit("chipset", |c: &mut ChipsetState| {
            for channel in &mut c.pit.channels {
                (channel.count, channel.mode, channel.read_state, channel.write_state) =
                    (u32::MAX, 255, 255, 255);
            }
            c.pit.flags = u32::MAX;
        })
    }),
    ("ioapic-of-ones", |s| {
        s.edit("chipset", |c: &mut ChipsetState| {
            c.ioapic.redirtbl.iter_mut().for_each(|entry| *entry = u64::MAX);
            c.ioapic.base_address = u64::MAX;
            c.ioapic.irr = u32::MAX;
        })
    }),
];

fn impossible_states_are_refused() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let state = State::of(&image);
    for (name, change, says) in REFUSED {
        let changed = change(state.clone()).with_memory_of(&image, here.path(name));
        rekindle(args!["restore", changed.path()]).fails(3, says);
        std::fs::remove_dir_all(changed.path()).expect("it is ours");
    }
}

/// How long a guest is given to come to grief.
const A_WHILE: Duration = Duration::from_millis(80);

/// Restores what may or may not run. It ends with a documented code, or it runs and can be stopped.
#[track_caller]
fn does_no_harm(name: &str, image: &Image) {
    let mut vm = Vm::restore(image);
    // Either it has ended, or somebody listens.
    let settled = until(SOON, || (!vm.is_alive() || verbs::describe(&vm).is_some()).then_some(()));
    assert!(settled.is_some(), "{name}: neither runs nor ends: {}", vm.story());
    if until(A_WHILE, || (!vm.is_alive()).then_some(())).is_none() {
        // It may end of itself in this instant, and then nobody listens.
        verbs::stop(&vm);
        let ended = until(SOON, || (!vm.is_alive()).then_some(()));
        assert!(ended.is_some(), "{name}: does not end when it is told to: {}", vm.story());
    }
    let done = vm.wait_exit();
    match done.code {
        // Told to end, or the guest's own end: it fell over what it found, or reset the machine.
        Some(0 | 5) => {}
        Some(3 | 4) => assert!(done.stderr.starts_with("error: "), "{name}: {done:?}"),
        _ => panic!("{name}: {done:?}"),
    }
}

fn no_state_at_all_does_harm_to_the_host() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let state = State::of(&image);
    for (name, change) in ANYTHING {
        let changed = change(state.clone()).with_memory_of(&image, here.path(name));
        does_no_harm(name, &changed);
        std::fs::remove_dir_all(changed.path()).expect("it is ours");
    }
}

/// Bits of sections at random, though every time the same ones.
fn no_flipped_bit_of_any_section_does_harm() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let sound = State::of(&image);
    let before = image.fingerprint();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as usize % below
    };
    let changed = image.copy_to(here.path("changed"));
    let rounds = if in_lab() { 24 } else { 96 };
    for round in 0..rounds {
        let mut state = sound.clone();
        // Each section in its turn, large or small.
        let number = round % state.sections.len();
        let section = &mut state.sections[number];
        let at = next(section.bytes.len());
        let bit = next(8);
        section.bytes[at] ^= 1 << bit;
        let what = format!("bit {bit} of byte {at} of section `{}`", section.name);
        std::fs::write(changed.state(), state.bytes()).expect("a copy can be written");
        does_no_harm(&what, &changed);
    }
    assert_eq!(image.fingerprint(), before);
}
