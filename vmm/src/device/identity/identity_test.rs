use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::lifecycle::{Persist, Quiesced};
use crate::memory::ram_at;

fn ram() -> GuestRam {
    ram_at(&[(GuestAddress(0), layout::MIN_RAM as usize)])
}

fn id(memory: &GuestRam) -> [u8; 16] {
    memory.read_obj(GuestAddress(layout::GENERATION_ID)).unwrap()
}

fn vmclock(memory: &GuestRam) -> Vec<u8> {
    let mut page = vec![0; layout::PAGE_SIZE as usize];
    memory.read_slice(&mut page, GuestAddress(layout::VMCLOCK)).unwrap();
    page
}

fn u64_at(page: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(page[at..at + 8].try_into().unwrap())
}

#[test]
fn every_restore_is_somebody_else_and_a_snapshot_changes_nothing() {
    let memory = ram();
    let first = Identity::new(memory.clone()).unwrap();
    let (born, clock) = (id(&memory), vmclock(&memory));
    assert_ne!(born, [0; 16]);
    let state = first.save(&Quiesced::in_test());
    assert_eq!((id(&memory), vmclock(&memory)), (born, clock.clone()));

    let (one, other) = (ram(), ram());
    for clone in [&one, &other] {
        clone.write_slice(&clock, GuestAddress(layout::VMCLOCK)).unwrap();
        let restored = Identity::restore(state, clone.clone()).unwrap();
        assert_eq!(restored.save(&Quiesced::in_test()), state);
        assert_eq!(restored.gsi(), 5);
    }
    assert!(born != id(&one) && born != id(&other) && id(&one) != id(&other));
    let (one, other) = (vmclock(&one), vmclock(&other));
    for field in [16, 104] {
        let [was, one, other] = [&clock, &one, &other].map(|page| u64_at(page, field));
        assert!(was != one && was != other && one != other, "field at {field}");
    }
}

#[test]
fn the_clock_says_what_its_header_demands() {
    let memory = ram();
    let identity = Identity::new(memory.clone()).unwrap();
    let page = vmclock(&memory);
    // Magic, size, version, counter, time type, sequence.
    assert_eq!(page[..16], *b"VCLK\x00\x10\x00\x00\x01\x00\xff\x00\x02\x00\x00\x00");
    assert_eq!(u64_at(&page, 24), 0b11 << 8);
    assert!(page[32..104].iter().chain(&page[112..]).all(|byte| *byte == 0));
    // Whoever was reading, or whatever a guest has written there: the next number is another one, and even.
    for (was, is) in [(2_u32, 4_u32), (5, 6), (u32::MAX, 0)] {
        memory.write_obj(was, GuestAddress(layout::VMCLOCK + 12)).unwrap();
        identity.renew().unwrap();
        assert_eq!(memory.read_obj::<u32>(GuestAddress(layout::VMCLOCK + 12)).unwrap(), is);
    }
}

#[test]
fn places_that_no_machine_has_are_refused() {
    let good = Identity::new(ram()).unwrap().save(&Quiesced::in_test());
    let refuse = |change: &dyn Fn(&mut snapshot_format::state::IdentityState)| {
        let mut state = good;
        change(&mut state);
        let memory = ram();
        let refused = Identity::restore(state, memory.clone()).unwrap_err();
        assert_eq!(id(&memory), [0; 16], "nothing was written");
        refused.to_string()
    };
    assert_eq!(refuse(&|s| s.generation_id = 0x10_0000), "the generation ID cannot lie at 0x100000");
    assert_eq!(refuse(&|s| s.generation_id = 0), "the generation ID cannot lie at 0x0");
    assert_eq!(refuse(&|s| s.vmclock = 0xf_f008), "the VMClock cannot lie at 0xff008");
    assert_eq!(refuse(&|s| s.vmclock = u64::MAX), "the VMClock cannot lie at 0xffffffffffffffff");
    assert_eq!(refuse(&|s| s.vmclock = s.generation_id), "the VMClock cannot lie at 0xfe000");
    assert_eq!(refuse(&|s| s.gsi = 24), "there is no interrupt 24 to tell of a new identity");
}
