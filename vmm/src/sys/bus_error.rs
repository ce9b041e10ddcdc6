//! SIGBUS: what the kernel sends when a mapped image file no longer holds the page that is touched.
//!
//! There is nothing to go back to: the page is gone, and returning from the handler would fault again. The process
//! says so, gives the terminal back as it was, and ends with the exit code of a damaged image. Installed only where
//! memory is mapped from an image.

use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::register_signal_handler;

/// The documented exit code of a damaged image.
const EXIT_DAMAGED_IMAGE: c_int = 3;

const MESSAGE: &[u8] = b"error: a page of guest memory could not be read (SIGBUS)\n  \
    caused by: the image's memory file was truncated, or its storage failed, while the guest ran from it\n  \
    hint: `rekindle verify IMAGE`; never modify an image that is in use\n";

/// The terminal on stdin as it was when the handler was installed.
static TERMINAL: OnceLock<libc::termios> = OnceLock::new();

/// Installs the handler for the whole process. Call before the terminal is made raw.
pub(crate) fn install() -> io::Result<()> {
    let mut terminal = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: fills the structure in, or fails because stdin is no terminal.
    let is_terminal = unsafe { libc::tcgetattr(libc::STDIN_FILENO, terminal.as_mut_ptr()) } == 0;
    if is_terminal {
        // SAFETY: the call has filled it in.
        TERMINAL.get_or_init(|| unsafe { terminal.assume_init() });
    }
    register_signal_handler(libc::SIGBUS, on_bus_error).map_err(io::Error::from)
}

extern "C" fn on_bus_error(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: write(2) is async-signal-safe, and the buffer is a constant of that length.
    unsafe { libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
    if let Some(terminal) = TERMINAL.get() {
        // SAFETY: tcsetattr(3) is async-signal-safe; reading a cell that was filled before the handler existed is, too.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, terminal) };
    }
    // SAFETY: _exit(2) is async-signal-safe and does not return.
    unsafe { libc::_exit(EXIT_DAMAGED_IMAGE) }
}
