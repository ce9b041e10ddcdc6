//! All unsafe code of the harness: what a kernel is asked to do with another process's pages.

#![expect(unsafe_code, reason = "this is the one place for it: see the module's header")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

const PAGE: usize = 4096;

/// The most ranges that one call takes (`UIO_MAXIOV`).
const MOST: usize = 1024;

/// Lets KSM merge all pages of the program that `command` starts (`PR_SET_MEMORY_MERGE`).
pub(crate) fn let_merge(command: &mut Command) {
    let allow = || {
        // SAFETY: changes a flag of the calling process.
        let done = unsafe { libc::prctl(libc::PR_SET_MEMORY_MERGE, 1, 0, 0, 0) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes one system call, which is allowed between fork and exec.
    unsafe { command.pre_exec(allow) };
}

/// Tells the kernel that these pages of process `pid` are not used: huge pages that they are a part of are split.
pub(crate) fn cool(pid: u32, pages: &[usize]) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    for some in pages.chunks(MOST) {
        let range = |page: &usize| libc::iovec { iov_base: *page as *mut libc::c_void, iov_len: PAGE };
        let ranges: Vec<libc::iovec> = some.iter().map(range).collect();
        let (fd, advice) = (process.as_raw_fd(), libc::MADV_COLD);
        // SAFETY: the ranges are as many as is said, and no byte of the process changes, wherever they are.
        let done =
            unsafe { libc::syscall(libc::SYS_process_madvise, fd, ranges.as_ptr(), ranges.len(), advice, 0) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
