//! What is no raw disk, though it is a file of sectors: the containers of other programs.
//!
//! A guest can write any of their headers to its own disk, so a header proves nothing of a disk that a guest has had.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Error;

/// Where each has which bytes, and what `qemu-img` calls it.
const HEADERS: [(u64, &[u8], &str); 4] = [
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (64, &[0x7f, 0x10, 0xda, 0xbe], "vdi"),
];

/// Refuses the disk in `file` if it begins as a container does.
///
/// # Errors
/// It does, or cannot be read.
pub(super) fn check_raw(file: &File, path: &Path) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Open { path: path.to_owned(), source };
    let mut start = [0; 512];
    file.read_exact_at(&mut start, 0).map_err(failed)?;
    let has = |(at, bytes, _): &&(u64, &[u8], &str)| start[*at as usize..].starts_with(bytes);
    match HEADERS.iter().find(has) {
        Some((_, _, format)) => Err(Error::Container { path: path.to_owned(), format }),
        None => Ok(()),
    }
}
