//! Who a guest is: the same for as long as it lives, somebody else after every restore.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rekindle_tests::{Case, Image, Scratch, Vm, cases, verbs};
use vmm::memory::layout;

use crate::KVM;

pub(crate) fn cases() -> Vec<Case> {
    cases!("spark", KVM, [every_clone_is_somebody_else_and_the_original_stays_who_it_is])
}

/// What the pages of an image's guest say: the generation ID, and of the VMClock what changes with it. Guest memory below
/// 3 GiB lies in the file at its own addresses.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    id: [u8; 16],
    seq_count: [u8; 4],
    disruption: [u8; 8],
    generation: [u8; 8],
}

impl Told {
    fn by(image: &Image) -> Self {
        let memory = File::open(image.memory()).expect("an image has a memory");
        let told = Self {
            id: read(&memory, layout::GENERATION_ID),
            seq_count: read(&memory, layout::VMCLOCK + 12),
            disruption: read(&memory, layout::VMCLOCK + 16),
            generation: read(&memory, layout::VMCLOCK + 104),
        };
        assert_eq!(read::<4>(&memory, layout::VMCLOCK), *b"VCLK");
        assert_ne!(told.id, [0; 16]);
        told
    }
}

fn read<const N: usize>(memory: &File, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    memory.read_exact_at(&mut bytes, at).expect("guest memory begins at 0");
    bytes
}

fn every_clone_is_somebody_else_and_the_original_stays_who_it_is() {
    let here = Scratch::new();
    let mut original = Vm::boot(["--memory", "32M"]);
    original.expect("spark: ready");
    let image = verbs::snapshot_and_resume(&original, here.path("first"));
    assert_eq!(original.ask("echo on"), "ok on");
    let born = Told::by(&image);
    assert_eq!(Told::by(&verbs::snapshot_and_resume(&original, here.path("second"))), born);
    original.stop();

    let mut seen = vec![born];
    for name in ["one", "other"] {
        let mut clone = Vm::restore(&image);
        assert_eq!(clone.ask("echo alive"), "ok alive");
        let again = verbs::snapshot_and_resume(&clone, here.path(name));
        let told = Told::by(&again);
        for before in &seen {
            assert!(
                told.id != before.id
                    && told.disruption != before.disruption
                    && told.generation != before.generation,
                "{told:?} after {seen:?}"
            );
        }
        assert_ne!(told.seq_count, seen[0].seq_count);
        assert_eq!(clone.ask("echo alive"), "ok alive");
        assert_eq!(Told::by(&verbs::snapshot(&clone, here.path(format!("{name}-later")))), told);
        clone.kill();
        seen.push(told);
    }
}
