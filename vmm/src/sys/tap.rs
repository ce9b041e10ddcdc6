//! TAP interfaces: the calls on /dev/net/tun (Documentation/networking/tuntap.rst, `drivers/net/tun.c`), and one on a
//! socket that asks for an interface's MTU.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_char, c_int, c_short, c_uint, c_ulong, ifreq};

const _: () = assert!(size_of::<ifreq>() == 40, "struct ifreq of linux/if.h");

/// A request that names an interface and is zero otherwise.
///
/// # Errors
/// The name is empty or too long.
fn request(name: &str) -> io::Result<ifreq> {
    // SAFETY: all zeros is a valid `ifreq`: integers, addresses of integers, and a null pointer.
    let mut request: ifreq = unsafe { mem::zeroed() };
    // One byte less than there is room for: the name ends with a NUL.
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as c_char;
    }
    Ok(request)
}

/// Attaches `tun`, which is /dev/net/tun newly opened, to the TAP interface `name`, with frames that begin with a
/// virtio header (`TUNSETIFF`). An interface that does not exist is created, if the process may do that.
///
/// # Errors
/// EBUSY: it is attached elsewhere. EINVAL: the interface is something else. EPERM: it is not ours.
pub(crate) fn attach(tun: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as c_short;
    // SAFETY: the call reads and writes one `ifreq`, which lives here.
    done(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })
}

/// How many bytes the virtio header has (`TUNSETVNETHDRSZ`).
pub(crate) fn set_header_len(tap: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    // SAFETY: the call reads one int, which lives here.
    done(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw const bytes) })
}

/// Which frames the reader takes beside plain ones, `TUN_F_*` (`TUNSETOFFLOAD`).
pub(crate) fn set_offload(tap: BorrowedFd<'_>, flags: c_uint) -> io::Result<()> {
    // SAFETY: the call takes its argument by value.
    done(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD as _, c_ulong::from(flags)) })
}

/// The MTU of the interface `name` (`SIOCGIFMTU`), by any `socket`.
pub(crate) fn mtu(socket: BorrowedFd<'_>, name: &str) -> io::Result<c_int> {
    let mut request = request(name)?;
    // SAFETY: the call reads and writes one `ifreq`, which lives here.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) })?;
    // SAFETY: the call has succeeded, so this is the member that it has filled in; any bytes are an int.
    Ok(unsafe { request.ifr_ifru.ifru_mtu })
}

fn done(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
