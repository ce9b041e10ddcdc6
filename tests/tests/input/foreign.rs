//! Images that are sound and not for this build or this host: code 4, and the message names the difference. And
//! images that contradict themselves: code 3.

use rekindle_tests::state::{Section, State};
use rekindle_tests::{Case, Image, Scratch, cases, rekindle};
use snapshot_format::state::{
    ClockState, CpuidEntryState, CpuidWordState, HostCheckState, ManifestState, MemoryState, MsrState,
    VcpuState,
};

use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    cases!("input", KVM, [images_of_other_builds_hosts_and_minds_are_told_apart])
}

/// A change to a state, the exit code of a restore, and what it says.
type Row = (&'static str, fn(State) -> State, i32, &'static [&'static str]);

fn manifest(state: State, change: impl FnOnce(&mut ManifestState)) -> State {
    state.edit("manifest", change)
}

const ROWS: &[Row] = &[
    ("nothing", |state| state, 0, &[]),
    // Other builds.
    ("newer-format", |state| State { format: 2, ..state }, 4, &["format version 2, this build reads 1"]),
    ("ancient-format", |state| State { format: 0, ..state }, 4, &["format version 0, this build reads 1"]),
    ("other-architecture", |state| State { architecture: 7, ..state }, 4, &["architecture number 7"]),
    (
        "newer-section",
        newer_section,
        4,
        &["section `serial:0` was saved by version 9, this build reads 1 to 1"],
    ),
    ("newer-manifest", newer_manifest, 4, &["section `manifest` was saved by version 2"]),
    ("unknown-section", unknown_section, 4, &["claims section `virtio-gpu:0` (saved by version 3)"]),
    ("second-uart", second_uart, 4, &["claims section `serial:1`"]),
    // Missing parts.
    ("no-manifest", |state| state.without("manifest"), 3, &["section `manifest` is missing"]),
    ("no-memory", |state| state.without("memory"), 3, &["section `memory` is missing"]),
    ("no-clock", |state| state.without("clock"), 3, &["section `clock` is missing"]),
    ("no-chipset", |state| state.without("chipset"), 3, &["section `chipset` is missing"]),
    ("no-vcpu", |state| state.without("vcpu:0"), 3, &["section `vcpu:0` is missing"]),
    ("no-serial", |state| state.without("serial:0"), 3, &["section `serial:0` is missing"]),
    ("no-keyboard", |state| state.without("i8042"), 3, &["section `i8042` is missing"]),
    ("no-rtc", |state| state.without("rtc"), 3, &["section `rtc` is missing"]),
    ("no-pm", |state| state.without("acpi-pm"), 3, &["section `acpi-pm` is missing"]),
    ("no-ready-port", |state| state.without("ready-port"), 3, &["section `ready-port` is missing"]),
    ("no-pvpanic", |state| state.without("pvpanic"), 3, &["section `pvpanic` is missing"]),
    ("no-identity", |state| state.without("identity"), 3, &["section `identity` is missing"]),
    ("cut-section", cut_section, 3, &["section `rtc` is damaged"]),
    ("long-section", long_section, 3, &["section `rtc` is damaged"]),
    ("no-sections", |state| State { sections: Vec::new(), ..state }, 3, &["section `manifest` is missing"]),
    // Other hosts.
    (
        "other-cpu",
        |state| manifest(state, other_cpu),
        4,
        &["this host cannot run image", "its CPU lacks xop"],
    ),
    ("nameless-feature", |state| manifest(state, nameless_feature), 4, &["its CPU lacks", "0x4fffffff"]),
    ("other-vendor", other_vendor, 4, &["a CPU of `CyrixInstead`, this host's is of"]),
    ("other-kvm", other_kvm, 4, &["KVM of kind `xen`, this host has"]),
    ("missing-capability", missing_capability, 4, &["its KVM lacks capability 99999"]),
    ("large-xsave", large_xsave, 4, &["16777216 are needed"]),
    // Other hosts, in what the guest was shown and uses: the manifest does not say it.
    ("not-known-to-be-met", |state| state.without("host-check"), 0, &[]),
    (
        "met-elsewhere",
        |state| state.edit("host-check", |met: &mut HostCheckState| met.digest = [7; 16]),
        0,
        &[],
    ),
    ("shown-more", |state| shown(state, 0x8000_0001, |leaf| leaf.ecx |= 1 << 11), 4, &["its CPU lacks xop"]),
    (
        "shown-more-of-kvm",
        |state| shown(state, 0x4000_0001, |leaf| leaf.eax |= 1 << 31),
        4,
        &["its CPU lacks CPUID 0x40000001.0x0 EAX bit 31"],
    ),
    (
        "longer-addresses",
        |state| shown(state, 0x8000_0008, |leaf| leaf.eax |= 0xff),
        4,
        &["the number of physical address bits (CPUID 0x80000008.0x0) is", "at least 255 is needed"],
    ),
    ("later-efer", |state| vcpu(state, |v| v.sregs.efer |= 1 << 63), 4, &["it does not have EFER bit 63"]),
    ("later-xcr0", |state| vcpu(state, |v| v.xcrs[0].value |= 1 << 61), 4, &["it does not have XCR0 bit 61"]),
    (
        "later-msr",
        |state| vcpu(state, |v| v.msrs.push(MsrState { index: LATER_MSR, data: 0xab })),
        4,
        &["its KVM does not have MSR 0x7fff0000, which holds 0xab"],
    ),
    // Nobody misses what was never used.
    (
        "later-msr-unused",
        |state| vcpu(state, |v| v.msrs.push(MsrState { index: LATER_MSR, data: 0 })),
        0,
        &[],
    ),
    (
        "later-msr-unused-among-others",
        |state| vcpu(state, |v| v.msrs.insert(3, MsrState { index: LATER_MSR, data: 0 })),
        0,
        &[],
    ),
    // Contradictions.
    ("no-cpus", |state| manifest(state, |m| m.vcpus = 0), 3, &["counts 0 vCPUs where 1 to 32 are possible"]),
    ("many-cpus", |state| manifest(state, |m| m.vcpus = 33), 3, &["counts 33 vCPUs"]),
    ("endless-cpus", |state| manifest(state, |m| m.vcpus = u32::MAX), 3, &["counts 4294967295 vCPUs"]),
    ("one-cpu-too-few", |state| manifest(state, |m| m.vcpus = 2), 3, &["section `vcpu:1` is missing"]),
    ("one-cpu-too-many", second_vcpu, 4, &["claims section `vcpu:1`"]),
    ("swapped-cpus", |state| vcpu(state, |v| v.id = 5), 3, &["section `vcpu:0` holds vCPU 5"]),
    ("two-frequencies", |state| vcpu(state, |v| v.tsc.khz += 1), 3, &["vCPU 0 runs at", "the manifest says"]),
    (
        "less-memory",
        |state| manifest(state, |m| m.memory_bytes = 16 << 20),
        3,
        &["do not lie as the page index says"],
    ),
    ("no-memory-size", |state| manifest(state, |m| m.memory_bytes = 0), 3, &["contradicts itself"]),
    (
        "memory-elsewhere",
        |state| memory(state, |m| m.regions[0].guest_base = 1 << 32),
        3,
        &["contradicts itself"],
    ),
    (
        "memory-over-lapic",
        |state| memory(state, |m| m.regions[0].guest_base = 0xfee0_0000),
        3,
        &["contradicts itself"],
    ),
    (
        "ragged-memory",
        |state| memory(state, |m| m.regions[0].len -= 1),
        3,
        &["cannot use the memory of image"],
    ),
    ("endless-memory", |state| memory(state, |m| m.regions[0].len = !0xfff), 3, &["cannot use the memory"]),
    ("too-few-sums", |state| memory(state, |m| m.chunk_sums.0.truncate(3)), 3, &["3 chunk checksums"]),
    ("no-regions", |state| memory(state, |m| m.regions.clear()), 3, &["0 regions"]),
    ("clock-of-the-far-future", far_future, 0, &[]),
];

/// An MSR that no kernel has.
const LATER_MSR: u32 = 0x7fff_0000;

/// Changes a leaf of what the first vCPU is shown.
fn shown(state: State, leaf: u32, change: impl FnOnce(&mut CpuidEntryState)) -> State {
    let found = |v: &mut VcpuState| {
        let entry = v.cpuid.iter_mut().find(|entry| entry.function == leaf);
        change(entry.expect("a guest is shown this leaf"));
    };
    vcpu(state, found)
}

fn vcpu(state: State, change: impl FnOnce(&mut VcpuState)) -> State {
    state.edit("vcpu:0", change)
}

fn memory(state: State, change: impl FnOnce(&mut MemoryState)) -> State {
    state.edit("memory", change)
}

fn newer_section(mut state: State) -> State {
    state.section("serial:0").version = 9;
    state
}

fn newer_manifest(mut state: State) -> State {
    state.section("manifest").version = 2;
    state
}

fn unknown_section(mut state: State) -> State {
    state.sections.push(Section { name: "virtio-gpu:0".into(), version: 3, bytes: vec![1, 2, 3] });
    state
}

fn second_uart(mut state: State) -> State {
    let second = Section { name: "serial:1".into(), ..state.section("serial:0").clone() };
    state.sections.push(second);
    state
}

fn second_vcpu(mut state: State) -> State {
    let second = Section { name: "vcpu:1".into(), ..state.section("vcpu:0").clone() };
    state.sections.push(second);
    state
}

fn cut_section(mut state: State) -> State {
    state.section("rtc").bytes.pop();
    state
}

fn long_section(mut state: State) -> State {
    state.section("rtc").bytes.push(0);
    state
}

/// XOP was on AMD's CPUs of 2011 to 2015 and on no other, and no emulator knows it.
fn other_cpu(manifest: &mut ManifestState) {
    manifest.host.cpuid.push(CpuidWordState { function: 0x8000_0001, index: 0, register: 2, bits: 1 << 11 });
}

fn nameless_feature(manifest: &mut ManifestState) {
    manifest.host.cpuid.push(CpuidWordState { function: 0x4fff_ffff, index: 0, register: 200, bits: 1 });
}

fn other_vendor(state: State) -> State {
    manifest(state, |manifest| manifest.host.cpu_vendor = "CyrixInstead".into())
}

fn other_kvm(state: State) -> State {
    manifest(state, |manifest| manifest.host.kvm_kind = "xen".into())
}

fn missing_capability(state: State) -> State {
    manifest(state, |manifest| manifest.host.kvm_caps.push(99_999))
}

fn large_xsave(state: State) -> State {
    manifest(state, |manifest| manifest.host.xsave_bytes = 16 << 20)
}

/// A host whose clock was wrong when the image was made. The guest's time stands still rather than go back.
fn far_future(state: State) -> State {
    state.edit("clock", |clock: &mut ClockState| {
        clock.realtime_ns = 4_000_000_000_000_000_000;
        clock.vmm_realtime_ns = clock.realtime_ns;
    })
}

fn images_of_other_builds_hosts_and_minds_are_told_apart() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let state = State::of(&image);
    assert_eq!(state.bytes(), std::fs::read(image.state()).expect("an image has a state"));
    for (name, change, code, says) in ROWS {
        let changed = change(state.clone()).with_memory_of(&image, here.path(name));
        if *code == 0 {
            let mut vm = rekindle_tests::Vm::restore(&changed);
            assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1", "{name}");
            vm.stop();
        } else {
            let said = rekindle(args!["restore", changed.path()]).fails(*code, says);
            assert!(said.contains(name), "the image is not named: {said}");
        }
        std::fs::remove_dir_all(changed.path()).expect("it is ours");
    }
}
