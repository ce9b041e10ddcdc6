use super::*;
use crate::memory::ram_at;

fn tables() -> GuestRam {
    let memory = ram_at(&[(GuestAddress(0), PAGE_TABLES_END as usize)]);
    write(&memory).unwrap();
    memory
}

/// What the processor would do with a linear address.
fn walk(memory: &GuestRam, linear: u64) -> Option<(u64, bool)> {
    let entry = |table: u64, shift: u32| -> u64 {
        memory.read_obj(GuestAddress((table & !0xFFF) + (linear >> shift & 511) * 8)).unwrap()
    };
    let mut user = true;
    let mut table = CR3;
    for shift in [39, 30, 21] {
        table = entry(table, shift);
        if table & PRESENT == 0 {
            return None;
        }
        assert_ne!(table & WRITABLE, 0);
        user &= table & 4 != 0;
    }
    assert_ne!(table & LARGE, 0);
    Some(((table & !0x1F_FFFF) + linear % LARGE_PAGE, user))
}

#[test]
fn the_first_4_gib_map_to_themselves_for_the_supervisor() {
    let memory = tables();
    for linear in [0, 0x7000, 0x10_0000, LARGE_PAGE - 1, LARGE_PAGE, 0x4000_0000, 0xFEE0_0000, 0xFFFF_FFFF] {
        assert_eq!(walk(&memory, linear), Some((linear, false)), "{linear:#x}");
    }
}

#[test]
fn nothing_else_is_mapped() {
    let memory = tables();
    for linear in [1 << 32, 1 << 39, 0xFFFF_8000_0000_0000] {
        assert_eq!(walk(&memory, linear), None, "{linear:#x}");
    }
}

#[test]
fn memory_that_ends_too_early_is_an_error() {
    let memory = ram_at(&[(GuestAddress(0), 0xA000)]);
    assert!(write(&memory).is_err());
}
