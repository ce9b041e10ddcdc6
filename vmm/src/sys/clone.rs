//! Parts of files that share their blocks (`FICLONERANGE` of ioctl_ficlonerange(2)).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// `struct file_clone_range` of linux/fs.h.
#[repr(C)]
struct FileCloneRange {
    src_fd: i64,
    src_offset: u64,
    src_length: u64,
    dest_offset: u64,
}

const _: () = assert!(size_of::<FileCloneRange>() == 32, "struct file_clone_range of linux/fs.h");

/// `_IOW(0x94, 13, struct file_clone_range)`.
const FICLONERANGE: libc::c_ulong = 0x4020_940d;

/// Has these bytes of `to`, which are whole blocks, share the blocks of `from` at the same place.
///
/// # Errors
/// EOPNOTSUPP, EXDEV or EINVAL: the file systems cannot do that.
pub(crate) fn share(from: &File, to: &File, bytes: &Range<u64>) -> io::Result<()> {
    let request = FileCloneRange {
        src_fd: from.as_raw_fd().into(),
        src_offset: bytes.start,
        src_length: bytes.end.saturating_sub(bytes.start),
        dest_offset: bytes.start,
    };
    // SAFETY: the call reads one `file_clone_range`, which lives here; both descriptors are borrowed until it returns.
    let done = unsafe { libc::ioctl(to.as_raw_fd(), FICLONERANGE as _, &raw const request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
