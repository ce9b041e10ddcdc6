//! Sending and receiving on connected sockets, straight from and into memory that a guest may change meanwhile. Never
//! waits, and never raises SIGPIPE.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, iovec, msghdr};
use vm_memory::VolatileSlice;

/// The most pieces that the kernel takes in one call (`UIO_MAXIOV`).
const MOST: usize = 1024;

/// Sends as much of `memory` as the socket takes now (`sendmsg(2)`).
///
/// # Errors
/// As the call; `WouldBlock` if it takes nothing now.
pub(crate) fn send(socket: BorrowedFd<'_>, memory: &[VolatileSlice<'_>]) -> io::Result<usize> {
    call(memory, |message| {
        // SAFETY: the message names live pieces of memory, by what `VolatileSlice` promises for as long as it is
        // borrowed, which is until `call` returns. The kernel only reads them.
        unsafe { libc::sendmsg(socket.as_raw_fd(), message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
    })
}

/// Receives into `memory` what is there now (`recvmsg(2)`); 0 at the end of the stream.
///
/// # Errors
/// As the call; `WouldBlock` if there is nothing now.
pub(crate) fn receive(socket: BorrowedFd<'_>, memory: &[VolatileSlice<'_>]) -> io::Result<usize> {
    call(memory, |message| {
        // SAFETY: as above. No reference to that memory exists here: the kernel writes it as a device would, and its
        // reader expects that. There is no room for control messages, so no descriptor is received.
        unsafe { libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_DONTWAIT) }
    })
}

fn call(memory: &[VolatileSlice<'_>], call: impl Fn(*mut msghdr) -> isize) -> io::Result<usize> {
    let piece = |slice: &VolatileSlice<'_>| iovec {
        iov_base: slice.ptr_guard_mut().as_ptr().cast(),
        iov_len: slice.len(),
    };
    let mut pieces: Vec<iovec> = memory.iter().take(MOST).map(piece).collect();
    let mut message = msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: pieces.as_mut_ptr(),
        msg_iovlen: pieces.len(),
        msg_control: std::ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: c_int::default(),
    };
    loop {
        match usize::try_from(call(&raw mut message)) {
            Ok(done) => return Ok(done),
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
}
