use std::fs::File;
use std::os::unix::fs::FileExt;

use snapshot_format::MemoryIndex;
use snapshot_format::pages::pack::{Entry, frame_count};
use snapshot_format::pages::{ChunkSums, FileOffset, Gpa, PageCount};

use super::*;

const MIB: u64 = 1 << 20;
const FILE: u64 = 13 * MIB;

const NONE: [Vec<(usize, usize)>; 2] = [Vec::new(), Vec::new()];

/// 7 MiB and 6 MiB, so that a chunk is shared.
fn placement() -> Vec<Region> {
    let region = |at, bytes, offset| {
        let (at, pages) = (Gpa::new(at).unwrap(), PageCount::from_bytes(bytes).unwrap());
        Region::new(at, pages, FileOffset::new(offset).unwrap()).unwrap()
    };
    vec![region(0, 7 * MIB, 0), region(1 << 32, 6 * MIB, 7 * MIB)]
}

/// A file of holes, but for bytes at these offsets.
fn file(data: &[u64]) -> Here {
    file_of(placement(), FILE, data)
}

fn file_of(placement: Vec<Region>, len: u64, data: &[u64]) -> Here {
    let file: File = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    data.iter().for_each(|at| file.write_all_at(&[1], *at).unwrap());
    let sums = ChunkSums::new(PageCount::from_bytes(len).unwrap());
    Here::File(Arc::new(Image::new(file, MemoryIndex::new(placement, sums).unwrap())))
}

fn mib(ranges: &[Range<usize>]) -> Vec<(usize, usize)> {
    let mut ranges = ranges.to_vec();
    ranges.sort_by_key(|range| range.start);
    ranges.into_iter().map(|range| (range.start >> 20, range.end >> 20)).collect()
}

fn found(sums: &[u64; 7], here: &Here) -> [Vec<(usize, usize)>; 2] {
    let zeros = zeros(&placement(), sums, here);
    [mib(&zeros[0]), mib(&zeros[1])]
}

#[test]
fn holes_in_chunks_without_a_sum_are_left_out() {
    let none = [0; 7];
    assert_eq!(found(&none, &file(&[])), [vec![(0, 7)], vec![(0, 6)]]);
    let [first, second] = found(&[0, 5, 0, 0, 0, 7, 0], &file(&[3 * MIB, 11 * MIB]));
    assert_eq!((first, second), (vec![(0, 2), (4, 7)], vec![(0, 3), (5, 6)]));
}

/// A guest has made up pages whose sums cancel out.
#[test]
fn a_sum_of_nothing_is_no_proof() {
    let none = [0; 7];
    assert_eq!(found(&none, &file(&[3 * MIB])), [vec![(0, 2), (4, 7)], vec![(0, 6)]]);
    assert_eq!(found(&none, &file(&[0, FILE - 1])), [vec![(2, 7)], vec![(0, 5)]]);
    // In the chunk that both regions have a part of.
    assert_eq!(found(&none, &file(&[6 * MIB])), [vec![(0, 6)], vec![(0, 6)]]);
    assert_eq!(found(&none, &file(&[7 * MIB])), [vec![(0, 7)], vec![(1, 6)]]);
    let everywhere: Vec<u64> = (0..FILE).step_by(1 << 20).collect();
    assert_eq!(found(&none, &file(&everywhere)), NONE);
}

#[test]
fn only_the_longest_stretches_are_left_out() {
    let chunks = 2 * MOST as u64 + 4;
    let mut sums: Vec<u64> = (0..chunks).map(|chunk| chunk % 2).collect();
    (sums[1], sums[3]) = (0, 0);
    let pages = PageCount::from_bytes(chunks * CHUNK_BYTES).unwrap();
    let region = Region::new(Gpa::new(0).unwrap(), pages, FileOffset::new(0).unwrap()).unwrap();
    let many = zeros(&[region], &sums, &file_of(vec![region], pages.bytes(), &[]));
    assert_eq!(many[0].len(), MOST);
    assert_eq!(many[0].first(), Some(&(0..5 * CHUNK_BYTES as usize)));
}

#[test]
fn what_is_elsewhere_is_all_delivered() {
    assert_eq!(found(&[0; 7], &Here::Nothing), NONE);
}

#[test]
fn a_file_that_was_cut_off_has_no_hole_behind_its_end() {
    let here = file(&[]);
    let Here::File(image) = &here else { panic!() };
    image.file().set_len(4 * MIB).unwrap();
    assert_eq!(found(&[0; 7], &here), NONE);
}

#[test]
fn a_pack_knows_its_frames_of_zeros() {
    let pages = PageCount::from_bytes(FILE).unwrap();
    let pack = |data: &[u64]| {
        let entry =
            |number| if data.contains(&number) { Entry::of(number, &[1; 100]) } else { Entry::default() };
        let entries = (0..frame_count(pages)).map(entry).collect();
        Here::Pack(PackIndex::new([0; 16], pages, entries).unwrap())
    };
    assert_eq!(found(&[0; 7], &pack(&[])), [vec![(0, 7)], vec![(0, 6)]]);
    // Frames of 64 KiB: one in the second chunk, one in the last.
    assert_eq!(found(&[0; 7], &pack(&[3 * 16, 13 * 16 - 1])), [vec![(0, 2), (4, 7)], vec![(0, 5)]]);
}

fn told(sums: &[u64; 7], told: &[[u64; 2]]) -> [Vec<(usize, usize)>; 2] {
    let zeros = Unproven::new(&placement(), sums, &Here::Nothing).told(&placement(), told);
    [mib(&zeros[0]), mib(&zeros[1])]
}

#[test]
fn a_server_may_say_what_is_zero_where_the_sums_allow_it() {
    let none = [0; 7];
    assert_eq!(told(&none, &[[0, FILE]]), [vec![(0, 7)], vec![(0, 6)]]);
    assert_eq!(told(&none, &[]), NONE);
    assert_eq!(told(&[0, 5, 0, 0, 0, 7, 0], &[[0, FILE]]), [vec![(0, 2), (4, 7)], vec![(0, 3), (5, 6)]]);
    // Whole chunks only; the last one is shorter.
    assert_eq!(told(&none, &[[MIB, 4 * MIB]]), [vec![(2, 4)], vec![]]);
    assert_eq!(told(&none, &[[2 * MIB + 4096, FILE]]), [vec![(4, 7)], vec![(0, 6)]]);
    assert_eq!(told(&none, &[[12 * MIB, MIB]]), [vec![], vec![(5, 6)]]);
    // In the chunk that both regions have a part of.
    assert_eq!(told(&none, &[[6 * MIB, 2 * MIB]]), [vec![(6, 7)], vec![(0, 1)]]);
    let here = file(&[0]);
    assert!(Unproven::new(&placement(), &none, &here).is_empty(), "it is known from the file");
}

#[test]
fn what_a_server_makes_up_comes_to_nothing() {
    let none = [0; 7];
    for bad in [
        [u64::MAX, u64::MAX],
        [u64::MAX - CHUNK_BYTES, u64::MAX],
        [FILE + MIB, 5],
        [0, 0],
        [2 * MIB, CHUNK_BYTES - 1],
        [1 << 63, 1 << 63],
    ] {
        assert_eq!(told(&none, &[bad]), NONE, "{bad:x?}");
    }
    assert_eq!(told(&[1; 7], &[[0, u64::MAX]]), NONE);
    assert_eq!(told(&none, &[[0, u64::MAX]]), [vec![(0, 7)], vec![(0, 6)]]);
    // Not for ever.
    let mut unproven = Unproven::new(&placement(), &none, &Here::Nothing);
    let all: usize = (0..1000).flat_map(|_| unproven.told(&placement(), &[[0, FILE]])).map(|z| z.len()).sum();
    assert_eq!(all, MOST);
    let mut unproven = Unproven::new(&placement(), &none, &Here::Nothing);
    unproven.told(&placement(), &[[1, 0]; MAX_ZEROS]);
    assert!(unproven.told(&placement(), &[[0, FILE]]).iter().all(Vec::is_empty), "one too many is ignored");
}
