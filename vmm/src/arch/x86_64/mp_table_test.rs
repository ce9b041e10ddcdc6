use super::*;
use crate::memory::ram_at;

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The entries, found as a kernel finds them: by the pointer at a multiple of 16 in the last 64 KiB below 1 MiB.
fn entries(cpus: u32) -> Vec<Vec<u8>> {
    let memory = ram_at(&[(GuestAddress(0), layout::MIN_RAM as usize)]);
    write(&memory, cpus).unwrap();
    let mut low = vec![0; 1 << 20];
    memory.read_slice(&mut low, GuestAddress(0)).unwrap();
    let pointers: Vec<_> = low[0xF_0000..].chunks(16).filter(|chunk| chunk.starts_with(b"_MP_")).collect();
    let [pointer] = pointers[..] else { panic!("{} pointers", pointers.len()) };
    assert_eq!((sum(pointer), pointer[8], pointer[9]), (0, 1, 4));
    let table = &low[u32_at(pointer, 4) as usize..];
    let len = u16::from_le_bytes([table[4], table[5]]) as usize;
    let table = &table[..len];
    assert_eq!((&table[..4], sum(table), u32_at(table, 36)), (&b"PCMP"[..], 0, 0xFEE0_0000));
    let mut rest = &table[44..];
    let mut entries = Vec::new();
    while let Some(kind) = rest.first() {
        let (entry, more) = rest.split_at(if *kind == 0 { 20 } else { 8 });
        entries.push(entry.to_vec());
        rest = more;
    }
    assert_eq!(entries.len(), usize::from(u16::from_le_bytes([table[34], table[35]])));
    assert!(entries.is_sorted_by_key(|entry| entry[0]), "entries come by their types");
    entries
}

fn of_type(entries: &[Vec<u8>], kind: u8) -> Vec<&[u8]> {
    entries.iter().filter(|entry| entry[0] == kind).map(|entry| &entry[1..]).collect()
}

#[test]
fn every_processor_is_listed_and_the_first_one_boots() {
    for cpus in [1, 2, 32] {
        let entries = entries(cpus);
        let processors = of_type(&entries, 0);
        assert_eq!(processors.len(), cpus as usize);
        for (id, processor) in processors.iter().enumerate() {
            assert_eq!((usize::from(processor[0]), processor[2]), (id, if id == 0 { 3 } else { 1 }));
        }
        let [ioapic] = of_type(&entries, 2)[..] else { panic!("one IOAPIC") };
        assert_eq!((u32::from(ioapic[0]), u32_at(ioapic, 3)), (cpus, 0xFEC0_0000));
    }
}

#[test]
fn every_pin_of_a_device_has_its_own_number() {
    let entries = entries(2);
    let pins: Vec<u8> = of_type(&entries, 3)
        .iter()
        .map(|interrupt| {
            let [0, 0, 0, 0, irq, 2, pin] = interrupt[..] else { panic!("{interrupt:?}") };
            assert_eq!(irq, pin);
            pin
        })
        .collect();
    assert_eq!(pins, (0..24).filter(|pin| *pin != 2).collect::<Vec<_>>());
    let local = of_type(&entries, 4);
    assert_eq!(local, [[3, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0xFF, 1]]);
}
