//! All unsafe of this program: an I/O port, written from user space.
#![expect(unsafe_code, reason = "neither ioperm nor the instruction has a safe form")]

use std::arch::asm;
use std::io;

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
