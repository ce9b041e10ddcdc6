use super::{oracle, reseal, samples};
use crate::ErrorKind;

#[test]
fn the_sample_is_rewritten_bit_for_bit() {
    let file = samples::state_file().unwrap();
    assert_eq!(oracle::rewrite(&file).unwrap(), file);
}

/// Random damage below the checksum: whatever is still accepted is written back exactly.
#[test]
fn what_is_accepted_is_rewritten_bit_for_bit() {
    let good = samples::state_file().unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut accepted = 0;
    for _ in 0..3000 {
        let mut file = good.clone();
        for _ in 0..=next(3) {
            let at = next(file.len());
            file[at] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
        }
        reseal::checksum_of(&mut file);
        if let Ok(rewritten) = oracle::rewrite(&file) {
            assert_eq!(rewritten, file);
            accepted += 1;
        }
    }
    assert!((1000..2900).contains(&accepted), "{accepted} of 3000: the damage tests nothing");
}

#[test]
fn an_unknown_section_is_reported_and_not_dropped() {
    let mut file = samples::state_file().unwrap();
    let at = file.windows(7).position(|bytes| bytes == b"pvpanic").unwrap();
    file[at..at + 7].copy_from_slice(b"xvpanic");
    reseal::checksum_of(&mut file);
    assert_eq!(oracle::rewrite(&file).unwrap_err().kind(), ErrorKind::UnknownSection);
}

/// Random damage below the checksum of the parts beside `state`: whatever is still accepted is written back exactly.
#[test]
fn parts_that_are_accepted_are_rewritten_bit_for_bit() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let (set, pack) = (samples::working_set().encode(), samples::pack_index().encode());
    assert_eq!(oracle::check_working_set(&set), Some(samples::working_set()));
    assert_eq!(oracle::check_pack(&pack), Some(samples::pack_index()));
    let (mut sets, mut packs) = (0, 0);
    for _ in 0..20_000 {
        let mut damage = |good: &[u8]| {
            let mut file = good.to_vec();
            let at = next(file.len());
            file[at] = [0, 1, 2, 3, 0xff, next(256) as u8][next(6)];
            reseal::checksum_of(&mut file);
            file
        };
        sets += usize::from(oracle::check_working_set(&damage(&set)).is_some());
        packs += usize::from(oracle::check_pack(&damage(&pack)).is_some());
    }
    for accepted in [sets, packs] {
        assert!((2000..19_000).contains(&accepted), "{accepted} of 20000: the damage tests nothing");
    }
}
