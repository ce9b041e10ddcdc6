//! All unsafe of this program: an I/O port, written from user space, the one ioctl that needs it, and sockets of a family
//! that the standard library does not know.
#![expect(
    unsafe_code,
    reason = "neither ioperm nor the instruction nor the ioctl nor AF_VSOCK has a safe form"
)]

use std::arch::asm;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Writes one byte to an I/O port. Needs root.
pub(crate) fn write_port(port: u16, value: u8) -> io::Result<()> {
    // SAFETY: the call takes three numbers and touches none of our memory.
    if unsafe { libc::ioperm(port.into(), 1, 1) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the port was just opened to this thread, and the device behind it reads no memory.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
    }
    Ok(())
}

/// `RNDRESEEDCRNG` of linux/random.h.
const RESEED: libc::Ioctl = 0x5207;

/// Has the kernel's random number generator reseed from its pool at once. Needs root.
pub(crate) fn reseed(random: &File) -> io::Result<()> {
    // SAFETY: the request has no argument.
    let done = unsafe { libc::ioctl(random.as_raw_fd(), RESEED) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The host's address (`VMADDR_CID_HOST`).
pub(crate) const HOST: u32 = libc::VMADDR_CID_HOST;
/// Bytes of an address.
const ADDRESS: libc::socklen_t = size_of::<libc::sockaddr_vm>() as libc::socklen_t;

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    libc::sockaddr_vm {
        svm_family: libc::AF_VSOCK as libc::sa_family_t,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: cid,
        svm_zero: [0; 4],
    }
}

fn vsock() -> io::Result<OwnedFd> {
    // SAFETY: the call takes three numbers.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    owned(fd)
}

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made the descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A connection to `port` of `cid`.
pub(crate) fn vsock_call(cid: u32, port: u32) -> io::Result<File> {
    let (socket, address) = (vsock()?, address(cid, port));
    // SAFETY: the address lives until the call returns, and its length is its own.
    let done = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS) };
    if done == 0 { Ok(socket.into()) } else { Err(io::Error::last_os_error()) }
}

/// A socket that listens at `port`.
pub(crate) fn vsock_listen(port: u32) -> io::Result<OwnedFd> {
    let (socket, address) = (vsock()?, address(libc::VMADDR_CID_ANY, port));
    // SAFETY: as above.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call takes two numbers.
    if unsafe { libc::listen(socket.as_raw_fd(), 16) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// The next connection to a socket that listens.
pub(crate) fn vsock_accept(listener: &OwnedFd) -> io::Result<File> {
    let (nowhere, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: without a place for the address the call writes to none of our memory.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), nowhere, no_length, libc::SOCK_CLOEXEC) };
    owned(fd).map(File::from)
}
