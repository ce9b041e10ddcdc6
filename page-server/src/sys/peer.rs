//! The process at the other end of a Unix socket: its number, and a descriptor of it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `SO_PEERPIDFD` of asm-generic/socket.h, since Linux 6.5.
const SO_PEERPIDFD: libc::c_int = 77;

/// The number of the process that has connected: 0 if it has none in this PID namespace.
///
/// # Errors
/// It is no connected Unix socket.
pub(crate) fn pid_of(socket: BorrowedFd<'_>) -> io::Result<i32> {
    let nobody = libc::ucred { pid: 0, uid: 0, gid: 0 };
    option(socket, libc::SO_PEERCRED, nobody).map(|peer| peer.pid)
}

/// A pidfd of the process that has connected, whatever its number belongs to by now.
///
/// # Errors
/// The kernel does not know the option (`ENOPROTOOPT`), the process has gone, or is not visible from here.
pub(crate) fn pidfd_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let fd: libc::c_int = option(socket, SO_PEERPIDFD, -1)?;
    if fd < 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: the kernel has made the descriptor for this call, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel says of a socket. `T` is the plain structure of integers that it writes for `name`.
fn option<T: Copy>(socket: BorrowedFd<'_>, name: libc::c_int, mut value: T) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which is so long, and the length to `len`; any bytes are
    // integers.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut len)
    };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
