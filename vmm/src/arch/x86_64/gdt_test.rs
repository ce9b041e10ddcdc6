use super::*;
use crate::memory::ram_at;

fn table(protocol: Protocol) -> Vec<u64> {
    let memory = ram_at(&[(GuestAddress(0), 0x1000)]);
    write(&memory, protocol).unwrap();
    (0..ENTRIES as u64).map(|i| memory.read_obj(GuestAddress(layout::GDT + 8 * i)).unwrap()).collect()
}

#[test]
fn descriptors_are_where_the_selectors_say() {
    let flat_data = 0x00CF_9300_0000_FFFF;
    let tss = 0x0000_8B00_0000_0067;
    assert_eq!(table(Protocol::Linux64), [0, 0, 0x00AF_9B00_0000_FFFF, flat_data, tss, 0]);
    assert_eq!(table(Protocol::Pvh), [0, 0, 0x00CF_9B00_0000_FFFF, flat_data, tss, 0]);
    assert_eq!(limit(), 47);
}

#[test]
fn registers_agree_with_the_descriptors() {
    let code = segment(CODE, Protocol::Linux64);
    assert_eq!((code.selector, code.type_, code.s, code.present, code.dpl), (0x10, 0xB, 1, 1, 0));
    assert_eq!((code.l, code.db, code.g, code.limit), (1, 0, 1, u32::MAX));
    let code = segment(CODE, Protocol::Pvh);
    assert_eq!((code.l, code.db), (0, 1));
    let task = segment(TASK, Protocol::Pvh);
    assert_eq!((task.type_, task.s, task.g, task.limit, task.unusable), (0xB, 0, 0, 0x67, 0));
}

#[test]
fn memory_that_ends_too_early_is_an_error() {
    let memory = ram_at(&[(GuestAddress(0x1000), 0x1000)]);
    assert!(write(&memory, Protocol::Pvh).is_err());
}
