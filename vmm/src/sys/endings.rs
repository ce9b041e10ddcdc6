//! Signals that end or stop the process without anybody having a say: the terminal is given back as it was, listed files
//! are removed, and then the signal has its usual effect.
//!
//! SIGTERM, SIGINT and SIGHUP end a VM in good order (`sys/signals.rs`), SIGBUS has a handler of its own
//! (`sys/bus_error.rs`). SIGKILL and SIGSTOP cannot be caught; after the latter SIGCONT makes the terminal raw again.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_int, c_void, siginfo_t, termios};

use super::leftover;

/// Whose usual effect is the end of the process, and that nothing else here handles (signal(7)).
const ENDING: [c_int; 15] = [
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGFPE,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSYS,
];

/// The terminal on stdin as it was; null unless it is raw now. What it points to is never freed.
static COOKED: AtomicPtr<termios> = AtomicPtr::new(ptr::null_mut());
/// The same as it was made.
static RAW: AtomicPtr<termios> = AtomicPtr::new(ptr::null_mut());

/// Makes the terminal on stdin raw by `change`, and has the handlers know how it was and how it is.
///
/// # Errors
/// stdin is no terminal, or as `change`.
pub(crate) fn make_raw(change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let cooked = settings()?;
    change()?;
    let raw = settings()?;
    RAW.store(Box::into_raw(Box::new(raw)), Ordering::SeqCst);
    COOKED.store(Box::into_raw(Box::new(cooked)), Ordering::SeqCst);
    Ok(())
}

/// Whether there is a terminal to give back.
pub(crate) fn is_raw() -> bool {
    !COOKED.load(Ordering::SeqCst).is_null()
}

/// The terminal is given back by somebody else.
pub(crate) fn is_cooked() {
    COOKED.store(ptr::null_mut(), Ordering::SeqCst);
    RAW.store(ptr::null_mut(), Ordering::SeqCst);
}

/// Installs the handlers where a signal has its usual effect. Call when there is a terminal that is raw, or a file that
/// is listed, and before threads are started that could be struck.
pub(crate) fn install() -> io::Result<()> {
    // The first process of a PID namespace, as in a container, is spared by signals whose effect is the usual one
    // (pid_namespaces(7)): a handler could end nothing, and would leave a VM without its socket.
    if std::process::id() != 1 {
        for signal in ENDING {
            install_if_default(signal, on_end, libc::SA_RESETHAND)?;
        }
    }
    if is_raw() {
        install_if_default(libc::SIGTSTP, on_stop, 0)?;
        install_if_default(libc::SIGCONT, on_continue, libc::SA_RESTART)?;
    }
    Ok(())
}

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

fn install_if_default(signal: c_int, handler: Handler, flags: c_int) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks for the action of a valid signal, into a structure of the right type, and sets none.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled it in.
    let mut action = unsafe { action.assume_init() };
    if action.sa_sigaction != libc::SIG_DFL {
        return Ok(());
    }
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = flags | libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the mask is a live set, and SIGTTOU a signal: setting a terminal up from the background would stop us.
    unsafe { libc::sigaddset(&raw mut action.sa_mask, libc::SIGTTOU) };
    // SAFETY: the handler calls nothing but what is async-signal-safe.
    let set = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Says `message` and ends the process at once, in the place of a thread that cannot.
pub(crate) fn leave(message: &[u8], code: c_int) -> ! {
    // SAFETY: the buffer is live and of that length.
    unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    apply(&COOKED);
    leftover::remove_all();
    // SAFETY: _exit(2) does not return.
    unsafe { libc::_exit(code) }
}

extern "C" fn on_end(signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    apply(&COOKED);
    leftover::remove_all();
    // Its usual effect is in place again (SA_RESETHAND), and comes when this handler returns.
    // SAFETY: raise(3) is async-signal-safe.
    unsafe { libc::raise(signal) };
}

/// Stops as if there were no handler, with the terminal given back; goes on with it raw.
extern "C" fn on_stop(signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    let errno = errno();
    apply(&COOKED);
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    let default = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeros is SIG_DFL with no flags and an empty mask.
    let default = unsafe { default.assume_init() };
    // SAFETY: a valid signal and live structures; sigaction(2) is async-signal-safe.
    unsafe { libc::sigaction(signal, &raw const default, before.as_mut_ptr()) };
    // SAFETY: raise(3) is async-signal-safe. The signal is blocked until the mask is changed below.
    unsafe { libc::raise(signal) };
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised, and this is a signal.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // Here the process stops, and here it goes on; the handler's return blocks or unblocks as it was.
    // SAFETY: the set is initialised; no old mask is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) };
    // SAFETY: as above; the first call has filled it in.
    unsafe { libc::sigaction(signal, before.as_ptr(), ptr::null_mut()) };
    apply(&RAW);
    set_errno(errno);
}

extern "C" fn on_continue(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    let errno = errno();
    apply(&RAW);
    set_errno(errno);
}

/// A handler that returns leaves it as it was: the thread may be between a call and the look at its errno.
fn errno() -> c_int {
    let location = errno_location();
    // SAFETY: the location is this thread's own, and lives as long as the thread.
    unsafe { *location }
}

fn set_errno(errno: c_int) {
    let location = errno_location();
    // SAFETY: as in `errno`; nothing refers to it.
    unsafe { *location = errno };
}

fn errno_location() -> *mut c_int {
    // SAFETY: takes nothing, cannot fail, and is async-signal-safe.
    unsafe { libc::__errno_location() }
}

/// Sets the terminal up, if there are settings and it is ours to set up: in the background it is the foreground's.
/// Async-signal-safe.
fn apply(settings: &AtomicPtr<termios>) {
    let settings = settings.load(Ordering::SeqCst);
    if settings.is_null() {
        return;
    }
    // SAFETY: tcgetpgrp(3) is async-signal-safe.
    let foreground = unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) };
    // SAFETY: getpgrp(2) is async-signal-safe.
    if foreground != unsafe { libc::getpgrp() } {
        return;
    }
    // SAFETY: tcsetattr(3) is async-signal-safe, and the settings were published whole and are never freed.
    unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, settings) };
}

fn settings() -> io::Result<termios> {
    let mut settings = MaybeUninit::<termios>::uninit();
    // SAFETY: room for the structure.
    if unsafe { libc::tcgetattr(libc::STDIN_FILENO, settings.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled it in.
    Ok(unsafe { settings.assume_init() })
}
