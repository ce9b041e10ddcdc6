//! Chunks good and bad, over a source that counts its reads.

use snapshot_format::pages::{ChunkSums, FileOffset, Gpa, PageCount, Region};

use super::super::mock::Mock;
use super::*;

/// Three chunks, the last of one page: the first has data in page 1, the second none, the last all over.
fn memory() -> Vec<u8> {
    let mut bytes = vec![0; (2 * CHUNK_BYTES + PAGE_BYTES) as usize];
    bytes[4096..8192].fill(1);
    bytes[(2 * CHUNK_BYTES) as usize..].fill(9);
    bytes
}

fn index(bytes: &[u8]) -> MemoryIndex {
    let pages = PageCount::from_bytes(bytes.len() as u64).unwrap();
    let mut sums = ChunkSums::new(pages);
    for (number, page) in (0..).zip(bytes.as_chunks::<4096>().0) {
        sums.add(number, page).unwrap();
    }
    let region = Region::new(Gpa::new(0).unwrap(), pages, FileOffset::new(0).unwrap()).unwrap();
    MemoryIndex::new(vec![region], sums).unwrap()
}

fn checked(bytes: Vec<u8>, knows_zeros: bool) -> Checked<Mock> {
    let mock = Mock { bytes, knows_zeros, ..Mock::default() };
    Checked::new(mock, index(&memory()).into(), "`memory`".into()).unwrap()
}

#[test]
fn a_chunk_is_read_whole_once_and_after_that_for_what_is_asked_for() {
    let source = checked(memory(), false);
    let mut page = [0xff; 4096];
    source.read(4096, &mut page).unwrap();
    assert_eq!((page, source.inner.reads()), ([1; 4096], 1));
    source.read(0, &mut page).unwrap();
    assert_eq!((page, source.inner.reads()), ([0; 4096], 2));
    let mut all = vec![0xff; memory().len()];
    source.read(0, &mut all).unwrap();
    assert_eq!(all, memory());
    assert_eq!(source.inner.reads(), 5);
}

#[test]
fn zeros_are_known_from_holes_and_from_what_was_read_and_never_from_a_sum_alone() {
    let source = checked(memory(), false);
    assert_eq!(source.zeros(CHUNK_BYTES), 0, "the sum is 0, but nobody has looked");
    source.read(CHUNK_BYTES, &mut [0; 4096]).unwrap();
    assert_eq!(source.zeros(CHUNK_BYTES), CHUNK_BYTES, "somebody has looked");
    source.read(0, &mut [0; 4096]).unwrap();
    assert_eq!(source.zeros(0), 4096);
    assert_eq!(source.zeros(4096), 0);
    assert_eq!(source.zeros(8192), 2 * CHUNK_BYTES - 8192, "on into the next chunk");

    let holes = checked(memory(), true);
    assert_eq!(holes.zeros(0), 0, "a hole is not believed before the chunk was checked");
    assert_eq!(holes.zeros(CHUNK_BYTES), CHUNK_BYTES);
    assert_eq!(holes.zeros(2 * CHUNK_BYTES), 0);
    assert_eq!(holes.inner.reads(), 0);
}

#[test]
fn one_changed_bit_is_found_by_whoever_comes_first_and_tells_where() {
    for at in [0, 5000, CHUNK_BYTES as usize + 1, memory().len() - 1] {
        let mut bytes = memory();
        bytes[at] ^= 0x10;
        let source = checked(bytes, true);
        let chunk = at as u64 / CHUNK_BYTES * CHUNK_BYTES;
        assert_eq!(source.zeros(at as u64 / PAGE_BYTES * PAGE_BYTES), 0, "{at}");
        for _ in 0..2 {
            match source.read(chunk, &mut [0; 4096]) {
                Err(Error::Damaged { offset, .. }) => assert_eq!(offset, chunk),
                other => panic!("{at}: {other:?}"),
            }
        }
    }
}

#[test]
fn data_where_a_hole_was_and_a_hole_where_data_was_are_damage() {
    let mut holed = memory();
    holed[4096..8192].fill(0);
    let source = checked(holed, true);
    assert_eq!(source.zeros(0), 0);
    assert!(matches!(source.read(4096, &mut [0; 4096]), Err(Error::Damaged { offset: 0, .. })));
}

#[test]
fn a_failure_to_read_is_no_verdict() {
    let source = checked(memory(), false);
    source.inner.failures.lock().unwrap().push(Mock::io_error());
    assert!(matches!(source.read(0, &mut [0; 4096]), Err(Error::Read { .. })));
    assert!(source.read(0, &mut [0; 4096]).is_ok());
}

#[test]
fn memory_of_another_length_is_refused() {
    let refused = Checked::new(Mock::numbered(3), index(&memory()).into(), "`memory`".into()).unwrap_err();
    assert!(refused.to_string().contains("12288 bytes long"), "{refused}");
}

#[test]
fn many_that_come_at_once_read_a_chunk_once() {
    let source = checked(memory(), false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut page = [0; 4096];
                source.read(4096, &mut page).unwrap();
                assert_eq!(page, [1; 4096]);
            });
        }
    });
    // The whole once, and a page for each of the others.
    assert_eq!(source.inner.reads(), 8);
}

/// The source below is changed behind everybody's back, after each chunk was found good: every page that leaves is looked at.
#[test]
fn a_page_that_is_changed_after_its_chunk_was_verified_reaches_nobody() {
    let mut source = checked(memory(), false);
    source.inner.is_here = true;
    let mut all = vec![0; memory().len()];
    source.read(0, &mut all).unwrap();
    let last = (2 * CHUNK_BYTES) as usize;
    source.inner.bytes[4096 + 77] ^= 1;
    source.inner.bytes[last + 9] ^= 1;
    for (at, len) in [(4096, 4096), (0, 2 * 4096), (0, CHUNK_BYTES as usize), (last, 4096)] {
        let page = if at == last { last as u64 } else { 4096 };
        match source.read(at as u64, &mut vec![0; len]) {
            Err(Error::Damaged { offset, .. }) => assert_eq!(offset, page),
            other => panic!("{at:#x}: {other:?}"),
        }
        match source.read_now(at as u64, &mut vec![0; len]) {
            Err(Error::Damaged { offset, .. }) => assert_eq!(offset, page),
            other => panic!("at once, {at:#x}: {other:?}"),
        }
    }
    // What was not changed is as good as before, and so is what is changed back.
    source.read(0, &mut [0; 4096]).unwrap();
    source.read(8192, &mut [0; 8 * 4096]).unwrap();
    source.inner.bytes = memory();
    source.read(0, &mut all).unwrap();
    assert_eq!(all, memory());
}

/// Data where there was none, in a chunk of zeros and in one with data.
#[test]
fn a_zero_page_that_is_written_after_its_chunk_was_verified_reaches_nobody() {
    for at in [0, CHUNK_BYTES] {
        let mut source = checked(memory(), false);
        source.read(at, &mut [0; 4096]).unwrap();
        source.inner.bytes[at as usize + 5] = 1;
        assert!(matches!(source.read(at, &mut [0; 4096]), Err(Error::Damaged { .. })));
        assert!(source.zeros(at) >= 4096, "it was zero when it was saved");
    }
}

/// A source that has everything at hand.
#[derive(Debug)]
struct AtHand(Mock);

impl PageSource for AtHand {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn zeros(&self, offset: u64) -> u64 {
        self.0.zeros(offset)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.0.read(offset, buffer)
    }

    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        self.0.read(offset, buffer).map(|()| true)
    }
}

/// What takes no waiting is compared as everything else is.
#[test]
fn what_is_read_at_once_is_compared_as_well() {
    let inner = AtHand(Mock { bytes: memory(), ..Mock::default() });
    let mut source = Checked::new(inner, index(&memory()).into(), "`memory`".into()).unwrap();
    let mut all = vec![0; memory().len()];
    assert!(!source.read_now(0, &mut all).unwrap(), "nobody has verified it");
    source.read(0, &mut all).unwrap();
    all.fill(7);
    assert!(source.read_now(0, &mut all).unwrap());
    assert_eq!(all, memory());
    let last = 2 * CHUNK_BYTES;
    source.inner.0.bytes[last as usize + 9] ^= 1;
    for (at, len) in [(last, 4096), (last - 4096, 8192), (0, all.len())] {
        match source.read_now(at, &mut vec![0; len]) {
            Err(Error::Damaged { offset, .. }) => assert_eq!(offset, last),
            other => panic!("{at:#x}: {other:?}"),
        }
    }
    assert!(source.read_now(4096, &mut [0; 4096]).unwrap());
}
