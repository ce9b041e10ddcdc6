use super::*;
use crate::memory::ram_at;

const RECORD: GuestAddress = GuestAddress(0x1040);

#[test]
fn time_is_added_to_what_is_there_and_to_nothing_else() {
    let memory = ram_at(&[(GuestAddress(0), 0x2000)]);
    memory.write_slice(&[0xff; 0x2000], GuestAddress(0)).unwrap();
    memory.write_obj(7_u64, RECORD).unwrap();
    add(&memory, RECORD, Duration::from_nanos(5));
    assert_eq!(memory.read_obj::<u64>(RECORD).unwrap(), 12);
    assert_eq!(memory.read_obj::<u64>(GuestAddress(0x1038)).unwrap(), u64::MAX);
    assert_eq!(memory.read_obj::<u64>(GuestAddress(0x1048)).unwrap(), u64::MAX);
}

#[test]
fn a_record_that_lies_nowhere_or_overflows_does_no_harm() {
    let memory = ram_at(&[(GuestAddress(0), 0x2000)]);
    for at in [0x2000, 0x1ffc, !63] {
        add(&memory, GuestAddress(at), Duration::MAX);
    }
    memory.write_obj(u64::MAX, RECORD).unwrap();
    add(&memory, RECORD, Duration::from_nanos(2));
    assert_eq!(memory.read_obj::<u64>(RECORD).unwrap(), 1);
}

#[test]
fn the_msr_says_whether_and_where() {
    assert_eq!(record(0x1040), None);
    assert_eq!(record(0x1041), Some(RECORD));
    assert_eq!(record(0x107f), Some(RECORD));
}
