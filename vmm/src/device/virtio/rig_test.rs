use std::fs;

use super::blk::Blk;
use super::rig::Rig;
use super::rng::Rng;

#[test]
fn requests_are_made_again_and_again() {
    let mut rig = Rig::<Rng>::rng(64);
    // Past where the rings' indices begin anew.
    for _ in 0..5000 {
        rig.round(Rig::<Rng>::REQUESTS);
    }
    rig.round(1);
}

#[test]
fn a_disks_requests_reach_its_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![0x5a; 16 * 4096]).unwrap();
    let mut reads = Rig::<Blk>::disk(file.path(), true, 4096);
    reads.round(16);
    drop(reads);
    let before = fs::read(file.path()).unwrap();
    // What is written is the rig's memory, which is zero.
    let mut writes = Rig::<Blk>::disk(file.path(), false, 4096);
    writes.round(3);
    drop(writes);
    let after = fs::read(file.path()).unwrap();
    assert!(before.iter().all(|byte| *byte == 0x5a));
    assert!(
        after[..3 * 4096].iter().all(|byte| *byte == 0) && after[3 * 4096..].iter().all(|byte| *byte == 0x5a)
    );
}
