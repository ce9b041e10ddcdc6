//! Reading and writing files at an offset, and whole messages, straight from and into memory that a guest may change
//! meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use libc::{c_int, iovec, off_t};
use vm_memory::VolatileSlice;

/// The most pieces that the kernel takes in one call (`UIO_MAXIOV`).
const MOST: usize = 1024;

/// Fills all of `memory` with what `file` holds from `offset` on (`preadv(2)`).
///
/// # Errors
/// As the call; `UnexpectedEof` if the file ends too early. Part of `memory` may be filled then.
pub(crate) fn read_exact_at(file: &File, memory: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
    let read = |fd: RawFd, pieces: &[iovec], at: off_t| {
        // SAFETY: each piece is a live mapping of its length, by what `VolatileSlice` promises for as long as it is
        // borrowed, which is until this module's functions return. No reference to that memory exists here: the
        // kernel writes it as a device would, and its reader expects that.
        unsafe { libc::preadv(fd, pieces.as_ptr(), pieces.len() as c_int, at) }
    };
    all(file, memory, offset, io::ErrorKind::UnexpectedEof, read)
}

/// Writes all of `memory` to `file` from `offset` on (`pwritev(2)`). What the guest changes meanwhile is written as it
/// is or as it was.
///
/// # Errors
/// As the call. Part of it may be written then.
pub(crate) fn write_all_at(file: &File, memory: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
    let write = |fd: RawFd, pieces: &[iovec], at: off_t| {
        // SAFETY: as above; the kernel only reads.
        unsafe { libc::pwritev(fd, pieces.as_ptr(), pieces.len() as c_int, at) }
    };
    all(file, memory, offset, io::ErrorKind::WriteZero, write)
}

/// Fills `memory` with what `file` holds from `offset` on, as far as it is in memory already (`RWF_NOWAIT` of
/// `preadv2(2)`); says how many bytes that were. Only the first 1024 pieces count.
///
/// # Errors
/// EAGAIN: nothing was. EOPNOTSUPP: the file system cannot tell.
pub(crate) fn read_now(file: &File, memory: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let (pieces, at) = (first_pieces(memory), place(offset)?);
    // SAFETY: as in `read_exact_at`.
    counted(unsafe {
        libc::preadv2(file.as_raw_fd(), pieces.as_ptr(), pieces.len() as c_int, at, libc::RWF_NOWAIT)
    })
}

/// Writes `memory` to `file` from `offset` on, as far as that can be done without waiting (`RWF_NOWAIT` of `pwritev2(2)`);
/// says how many bytes that were. Only the first 1024 pieces count.
///
/// # Errors
/// As [`read_now`].
pub(crate) fn write_now(file: &File, memory: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let (pieces, at) = (first_pieces(memory), place(offset)?);
    // SAFETY: as in `read_exact_at`; the kernel only reads.
    counted(unsafe {
        libc::pwritev2(file.as_raw_fd(), pieces.as_ptr(), pieces.len() as c_int, at, libc::RWF_NOWAIT)
    })
}

fn first_pieces(memory: &[VolatileSlice<'_>]) -> Vec<iovec> {
    memory.iter().take(MOST).map(piece).collect()
}

fn place(offset: u64) -> io::Result<off_t> {
    off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn counted(done: isize) -> io::Result<usize> {
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// Takes one message, a TAP's frame or a datagram, into `memory`; `None` if it was longer than that, and is lost. Only
/// the first 1023 pieces count.
///
/// # Errors
/// As `readv(2)`.
pub(crate) fn receive(fd: BorrowedFd<'_>, memory: &[VolatileSlice<'_>]) -> io::Result<Option<usize>> {
    // A message that does not fit is cut off without a word. So there is room for one byte more than may be used.
    let mut spill = 0_u8;
    let mut pieces: Vec<iovec> = memory.iter().take(MOST - 1).map(piece).collect();
    let room: usize = pieces.iter().map(|piece| piece.iov_len).sum();
    pieces.push(iovec { iov_base: (&raw mut spill).cast(), iov_len: 1 });
    // SAFETY: each piece but the last is a live mapping of its length, as in `read_exact_at`; the last is a byte that
    // lives here.
    let received = unsafe { libc::readv(fd.as_raw_fd(), pieces.as_ptr(), pieces.len() as c_int) };
    match usize::try_from(received) {
        Ok(received) => Ok((received <= room).then_some(received)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Sends all of `memory` as one message. More than 1024 pieces are refused.
///
/// # Errors
/// As `writev(2)`.
pub(crate) fn send(fd: BorrowedFd<'_>, memory: &[VolatileSlice<'_>]) -> io::Result<()> {
    let pieces: Vec<iovec> = memory.iter().map(piece).collect();
    // SAFETY: each piece is a live mapping of its length, as in `read_exact_at`; the kernel only reads.
    let sent = unsafe { libc::writev(fd.as_raw_fd(), pieces.as_ptr(), pieces.len() as c_int) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn piece(slice: &VolatileSlice<'_>) -> iovec {
    iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() }
}

/// Calls until all is done. `nothing` is the error if a call does nothing.
fn all(
    file: &File,
    memory: &[VolatileSlice<'_>],
    mut offset: u64,
    nothing: io::ErrorKind,
    call: impl Fn(RawFd, &[iovec], off_t) -> isize,
) -> io::Result<()> {
    let mut pieces: Vec<iovec> = memory.iter().filter(|slice| !slice.is_empty()).map(piece).collect();
    let mut rest = pieces.as_mut_slice();
    while !rest.is_empty() {
        let at = place(offset)?;
        let batch = &rest[..rest.len().min(MOST)];
        let done = match usize::try_from(call(file.as_raw_fd(), batch, at)) {
            Ok(0) => return Err(nothing.into()),
            Ok(done) => done,
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => continue,
                e => return Err(e),
            },
        };
        offset += done as u64;
        rest = advance(rest, done);
    }
    Ok(())
}

/// What is left of `pieces` behind `bytes`, of which there are not more than the pieces have.
fn advance(pieces: &mut [iovec], mut bytes: usize) -> &mut [iovec] {
    let mut gone = 0;
    while gone < pieces.len() && bytes >= pieces[gone].iov_len {
        bytes -= pieces[gone].iov_len;
        gone += 1;
    }
    let rest = &mut pieces[gone..];
    if let Some(first) = rest.first_mut() {
        first.iov_base = first.iov_base.wrapping_byte_add(bytes);
        first.iov_len -= bytes;
    }
    rest
}
