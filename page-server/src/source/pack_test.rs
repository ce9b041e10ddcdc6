//! Packs good and bad: what comes out is what went in, or an error.

use std::os::unix::fs::FileExt;

use super::super::mock::Mock;
use super::*;
use crate::image::pack_memory;

/// Two frames and a page: one that compresses, one of zeros, one that does not compress.
fn memory() -> Vec<u8> {
    let mut bytes = vec![0; 2 * FRAME_BYTES as usize + 4096];
    bytes[5000..9000].fill(7);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for byte in &mut bytes[2 * FRAME_BYTES as usize..] {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        *byte = random as u8;
    }
    bytes
}

fn packed() -> File {
    let file = tempfile::tempfile().unwrap();
    let packed = pack_memory(&Mock { bytes: memory(), ..Mock::default() }, [1; 16], &file).unwrap();
    assert_eq!(packed.memory_bytes, FRAME_BYTES + 4096);
    assert_eq!(packed.pack_bytes, file.metadata().unwrap().len());
    file
}

fn pack(file: &File) -> Pack {
    Pack::new(file.try_clone().unwrap(), "`memory-pack`".into()).unwrap()
}

/// A frame that says of itself what is true of its bytes, and whose bytes are `stored`: only decoding finds out.
fn forged(stored: &[u8], pages: u64) -> Pack {
    let pages = snapshot_format::pages::PageCount::from_bytes(pages * 4096).unwrap();
    let index = PackIndex::new([1; 16], pages, vec![pack::Entry::of(0, stored)]).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&index.encode(), 0).unwrap();
    file.write_all_at(stored, pack::frames_start(pages)).unwrap();
    Pack::new(file, "forged".into()).unwrap()
}

#[test]
fn what_comes_out_is_what_went_in_at_every_page_and_across_frames() {
    let file = packed();
    let source = pack(&file);
    let memory = memory();
    let codings: Vec<_> = (0..3).map(|number| source.index().frame(number).coding).collect();
    assert_eq!(codings, [Coding::Zstd, Coding::Zero, Coding::Raw]);
    let mut all = vec![0xff; memory.len()];
    source.read(0, &mut all).unwrap();
    assert_eq!(all, memory);
    for (number, expected) in memory.as_chunks::<4096>().0.iter().enumerate() {
        let mut page = [0xff; 4096];
        source.read(number as u64 * 4096, &mut page).unwrap();
        assert_eq!(&page, expected, "page {number}");
    }
    let mut across = [0xff; 3 * 4096];
    source.read(FRAME_BYTES - 4096, &mut across).unwrap();
    assert_eq!(across[..], memory[FRAME_BYTES as usize - 4096..][..3 * 4096]);
    assert_eq!(source.zeros(0), 0, "a page of zeros in a frame with data is not known");
    assert_eq!(source.zeros(FRAME_BYTES), FRAME_BYTES);
    assert_eq!(source.zeros(FRAME_BYTES + 8192), FRAME_BYTES - 8192);
    assert_eq!(source.zeros(2 * FRAME_BYTES), 0);
}

#[test]
fn every_flipped_bit_of_a_frame_is_found() {
    let file = packed();
    let source = pack(&file);
    let frame = source.index().frame(0);
    let mut stored = vec![0; frame.len];
    file.read_exact_at(&mut stored, frame.offset).unwrap();
    for at in 0..stored.len() * 8 {
        stored[at / 8] ^= 1 << (at % 8);
        file.write_all_at(&stored, frame.offset).unwrap();
        // Opened after the change, which therefore is none.
        let refused = pack(&file).read(0, &mut [0; 4096]);
        assert!(matches!(refused, Err(Error::Damaged { .. })), "bit {at}: {refused:?}");
        stored[at / 8] ^= 1 << (at % 8);
    }
}

#[test]
fn a_frame_whose_sum_is_right_and_whose_content_is_not_is_damage() {
    let encode = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
    let damaged = |source: &Pack| match source.read(0, &mut [0; 4096]) {
        Err(Error::Damaged { how, .. }) => how,
        other => panic!("{other:?}"),
    };
    assert!(damaged(&forged(&[1; 100], 16)).contains("is not one Zstandard frame"));
    assert!(damaged(&forged(&encode(&[1; 4096]), 16)).contains("gives 4096 bytes"));
    // A bomb: no more is decoded than there is room for.
    assert!(damaged(&forged(&encode(&vec![0; 64 << 20]), 16)).contains("cannot be decoded"));
    let two = [encode(&[1; 32 << 10]), encode(&[1; 32 << 10])].concat();
    assert!(damaged(&forged(&two, 16)).contains("is not one Zstandard frame"));
    assert!(forged(&encode(&[1; 64 << 10]), 16).read(0, &mut [0; 4096]).is_ok());
}

#[test]
fn what_is_no_pack_is_refused_and_a_pack_that_is_cut_off_later_is_noticed() {
    let file = packed();
    let source = pack(&file);
    file.set_len(source.index().pack_len() - 1).unwrap();
    assert!(matches!(source.read(2 * FRAME_BYTES, &mut [0; 4096]), Err(Error::Changed { .. })));
    let refused = Pack::new(file.try_clone().unwrap(), "cut".into()).unwrap_err();
    assert!(matches!(refused, PackError::Index(pack::Error::FileLength { .. })), "{refused}");
}
