//! All unsafe of this program: an I/O port, written from user space, and the one ioctl that needs it.
#![expect(unsafe_code, reason = "neither ioperm nor the instruction nor the ioctl has a safe form")]

use std::arch::asm;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

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
