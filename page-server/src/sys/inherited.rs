//! Sockets that a service manager has opened for this process (`LISTEN_FDS`, sd_listen_fds(3)).

use std::ffi::OsString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::BorrowedFd;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// The first one (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;
/// More than any service has.
const MOST: RawFd = 64;

/// Takes them, in their order. From the second call on there are none. Call before this process opens a descriptor that it
/// keeps.
pub(crate) fn take() -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let [pid, count] = ["LISTEN_PID", "LISTEN_FDS"].map(std::env::var_os);
    let count = count_for(std::process::id(), pid, count);
    (FIRST..FIRST + count).filter_map(own).collect()
}

/// How many there are for process `own`: what is said is meant for one process, and its children inherit the words.
fn count_for(own: u32, pid: Option<OsString>, count: Option<OsString>) -> RawFd {
    let number = |text: Option<OsString>| text?.to_str()?.parse::<u32>().ok();
    if number(pid) != Some(own) {
        return 0;
    }
    number(count).map_or(0, |count| RawFd::try_from(count).unwrap_or(MOST).min(MOST))
}

fn own(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: borrowed for two calls that only ask and set a flag; if it is not open they fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl_getfd(borrowed).ok()?;
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC).ok()?;
    // SAFETY: the descriptor is open, and was when this process began, because nothing was opened since (see `take`): so
    // nothing else here owns it; and it is taken once, by the flag above.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_for_another_process_is_not_taken() {
        let text = |text: &str| Some(OsString::from(text));
        assert_eq!(count_for(7, text("7"), text("2")), 2);
        assert_eq!(count_for(7, text("8"), text("2")), 0);
        assert_eq!(count_for(7, None, text("2")), 0);
        assert_eq!(count_for(7, text("7"), None), 0);
        assert_eq!(count_for(7, text("7"), text("-1")), 0);
        assert_eq!(count_for(7, text("7"), text("4000000000")), MOST);
    }
}
