//! The process of a VMM that does not understand what a server says: ended where that is all that keeps its guest from
//! going on with wrong memory.

#[cfg(test)]
#[path = "peer_test.rs"]
pub(crate) mod peer_test;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::sys::peer::{pid_of, pidfd_of};

/// The process that has connected.
#[derive(Debug)]
pub(crate) struct Peer {
    process: Result<OwnedFd, NoProcess>,
}

/// Why a process cannot be ended.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NoProcess {
    /// Its number is not known here: it lives in another PID namespace.
    #[error("its process is not visible from here")]
    Invisible,
    /// It is this one.
    #[error("it is this process")]
    Oneself,
    /// It cannot be held.
    #[error("its process cannot be opened")]
    Open(#[source] Errno),
    /// It cannot be signalled.
    #[error("its process cannot be killed")]
    Kill(#[source] Errno),
    /// It has been signalled, and has not ended.
    #[error("its process was killed and has not ended")]
    Lingers,
}

/// How long a process that was killed may take to end. One with much memory takes a second or two.
const END_LIMIT: Duration = Duration::from_secs(10);

impl Peer {
    /// Who has connected `socket`.
    pub(crate) fn of(socket: &UnixStream) -> Self {
        Self { process: open(socket) }
    }

    /// A child of a test's.
    #[cfg(test)]
    pub(crate) fn of_child(child: &std::process::Child) -> Self {
        let pid = Pid::from_child(child);
        Self { process: pidfd_open(pid, PidfdFlags::empty()).map_err(NoProcess::Open) }
    }

    /// Ends it by SIGKILL, and returns once none of its threads runs any more: until then the userfaultfd has to stay
    /// open, because missing pages are zero without one.
    ///
    /// # Errors
    /// It is not known, this process may not, or it does not end: a thread that waits for a device cannot be killed.
    pub(crate) fn end(&self) -> Result<(), NoProcess> {
        self.end_within(END_LIMIT)
    }

    /// As [`Self::end`], and waits no longer than `limit`.
    ///
    /// # Errors
    /// It is not known, this process may not, or it has not ended by then.
    pub(crate) fn end_within(&self, limit: Duration) -> Result<(), NoProcess> {
        let process = self.process.as_ref().map_err(|why| why.clone())?;
        match pidfd_send_signal(process, Signal::KILL) {
            // It is a zombie by now, or nobody's child any more.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(NoProcess::Kill(errno)),
        }
        // A pidfd is readable once the last thread has gone (pidfd_poll of kernel/fork.c).
        let limit = Timespec::try_from(limit).ok();
        loop {
            match poll(&mut [PollFd::new(process, PollFlags::IN)], limit.as_ref()) {
                Err(Errno::INTR) => {}
                Ok(0) => return Err(NoProcess::Lingers),
                _ => return Ok(()),
            }
        }
    }
}

fn open(socket: &UnixStream) -> Result<OwnedFd, NoProcess> {
    let pid = pid_of(socket.as_fd()).map_err(open_failed)?;
    let pid = Pid::from_raw(pid).ok_or(NoProcess::Invisible)?;
    if pid == getpid() {
        return Err(NoProcess::Oneself);
    }
    match pidfd_of(socket.as_fd()) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOPROTOOPT) => open_by_number(socket, pid),
        opened => opened.map_err(open_failed),
    }
}

fn open_failed(error: io::Error) -> NoProcess {
    NoProcess::Open(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Before Linux 6.5. The number may belong to another process once the one that has connected is gone, and then its end of
/// the connection is closed, unless another process holds it.
fn open_by_number(socket: &UnixStream, pid: Pid) -> Result<OwnedFd, NoProcess> {
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(NoProcess::Open)?;
    let mut connection = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut connection, Some(&Timespec::default())).map_err(NoProcess::Open)?;
    if connection[0].revents().contains(PollFlags::HUP) {
        return Err(NoProcess::Open(Errno::SRCH));
    }
    Ok(process)
}
