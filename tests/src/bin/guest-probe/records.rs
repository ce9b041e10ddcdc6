//! Records on a disk whose contents follow from their numbers: what was acknowledged must be there, whatever happened.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use crate::say;
use crate::work::Numbers;

/// Bytes of a record: more than a page, and no whole number of what a disk request may have.
const RECORD: usize = 24 << 10;

/// How many there are at most: a disk of 64 MiB has room for them.
const MOST: u64 = 1500;

fn record(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; RECORD];
    Numbers(number << 8 | 1).write(&mut bytes);
    bytes
}

/// Appends records, each of which is on the disk before its line is on the console.
pub(crate) fn write(path: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    for number in 1..=MOST {
        file.write_all(&record(number))?;
        file.sync_all()?;
        say(&format!("record {number}"))?;
    }
    Ok(())
}

/// Says how many whole records there are from the first on, and whether each is what it should be.
pub(crate) fn check(path: &str) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; RECORD];
    for number in 1.. {
        match file.read_exact(&mut bytes) {
            Ok(()) if bytes == record(number) => {}
            Ok(()) => return say(&format!("check record {number} is WRONG")),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return say(&format!("check {} right", number - 1));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
