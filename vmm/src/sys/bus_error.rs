//! SIGBUS: what the kernel sends when memory that is touched is not there: a mapped image file no longer holds the page,
//! or pages that were to be delivered were lost and all of memory was taken away.
//!
//! There is nothing to go back to: the page is gone, and returning from the handler would fault again. The process
//! says so, gives the terminal back as it was, removes its sockets, and ends with the exit code of a damaged image.
//!
//! Where memory was taken away, the thread that watches over it has told the supervisor, which ends the process in good
//! order: the thread that was struck stands still meanwhile, and ends it only if nobody else has within a moment.

use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::register_signal_handler;

use super::leftover;

/// The documented exit code of a damaged image.
const EXIT_DAMAGED_IMAGE: c_int = 3;
/// The documented exit code of a guest that cannot go on.
const EXIT_GUEST_FAILED: c_int = 5;

const MESSAGE: &[u8] = b"error: a page of guest memory could not be read (SIGBUS)\n  \
    caused by: the image's memory file was truncated, or its storage failed, while the guest ran from it\n  \
    hint: `rekindle verify IMAGE`; never modify an image that is in use\n";

/// For how long a thread that was struck leaves the end of the process to others, in seconds.
const MOMENT: libc::time_t = 1;

/// The terminal on stdin as it was when the handler was installed.
static TERMINAL: OnceLock<libc::termios> = OnceLock::new();

/// What is said of memory that was taken away, once it was.
static SEVERED: OnceLock<Vec<u8>> = OnceLock::new();

/// Whether there is a supervisor, which is told of memory that was taken away.
static SUPERVISED: AtomicBool = AtomicBool::new(false);

/// Whether the process is being ended by somebody who knows of it.
static ATTENDED: AtomicBool = AtomicBool::new(false);

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

/// Call before memory is taken away from this process's threads: `message` is what the process says should none of them
/// end it in good order.
pub(crate) fn announce(message: Vec<u8>) {
    SEVERED.get_or_init(|| message);
}

/// Call when there is a supervisor that is told of memory that was taken away. Until then there is only the thread that
/// builds the machine, and if that is struck, nobody else ends the process.
pub(crate) fn supervise() {
    SUPERVISED.store(true, Ordering::SeqCst);
}

/// Call once it is certain that the process will end in good order: threads that are struck stand still until then.
pub(crate) fn leave_to_supervisor() {
    ATTENDED.store(true, Ordering::SeqCst);
}

/// Ends the process at once, as a thread that was struck would: for memory that has to go and cannot be taken away.
pub(crate) fn end_now() -> ! {
    end(SEVERED.get().map_or(MESSAGE, Vec::as_slice), EXIT_GUEST_FAILED)
}

extern "C" fn on_bus_error(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    match SEVERED.get() {
        Some(message) if !SUPERVISED.load(Ordering::SeqCst) => end(message, EXIT_GUEST_FAILED),
        Some(message) => {
            let mut left = libc::timespec { tv_sec: MOMENT, tv_nsec: 0 };
            // A vCPU's thread is kicked meanwhile.
            // SAFETY: nanosleep(2) is async-signal-safe, and may write what is left over what it was given.
            while unsafe { libc::nanosleep(&raw const left, &raw mut left) } != 0 {}
            while ATTENDED.load(Ordering::SeqCst) {
                // SAFETY: pause(2) is async-signal-safe.
                unsafe { libc::pause() };
            }
            end(message, EXIT_GUEST_FAILED)
        }
        None => end(MESSAGE, EXIT_DAMAGED_IMAGE),
    }
}

/// Says `message` and ends the process. Async-signal-safe: the cells that it reads were filled before.
fn end(message: &[u8], code: c_int) -> ! {
    // SAFETY: write(2) is async-signal-safe, and the buffer is live and of that length.
    unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    if let Some(terminal) = TERMINAL.get() {
        // SAFETY: tcsetattr(3) is async-signal-safe; reading a cell that was filled before the handler existed is, too.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, terminal) };
    }
    leftover::remove_all();
    // SAFETY: _exit(2) is async-signal-safe and does not return.
    unsafe { libc::_exit(code) }
}
