//! The way of a request from a connection's thread into the machine's event loop, and of the reply back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::{Fault, Reply, Request};

/// How often a waiting connection looks whether the server is being closed.
const CLOSING_CHECK: Duration = Duration::from_millis(50);

/// The machine's end.
#[derive(Debug)]
pub struct Mailbox {
    letters: Receiver<Letter>,
    /// A semaphore: its count is the number of letters that wait, so it stays readable until all are taken.
    wake: Arc<OwnedFd>,
}

/// The server's end; clones lead to the same machine.
#[derive(Clone, Debug)]
pub struct Postbox {
    letters: Sender<Letter>,
    wake: Arc<OwnedFd>,
    /// Whether a snapshot has been asked for and not been answered.
    snapshotting: Arc<AtomicBool>,
}

/// A request that waits for its reply. Dropped without one, whoever asked is told that the VM ended.
#[derive(Debug)]
pub struct Letter {
    /// What is asked.
    pub request: Request,
    reply: SyncSender<Reply>,
    asker: Asker,
}

/// Who waits for a reply.
#[derive(Clone, Debug, Default)]
pub struct Asker(Option<Arc<UnixStream>>);

impl Asker {
    /// The client at the other end of `stream`.
    pub(super) fn at(stream: &Arc<UnixStream>) -> Self {
        Self(Some(Arc::clone(stream)))
    }

    /// Whether the client has closed its connection. One that has only said that it sends no more still waits.
    pub fn has_gone(&self) -> bool {
        let Some(stream) = &self.0 else { return false };
        let mut fds = [PollFd::new(stream, PollFlags::empty())];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Fails only if it is interrupted.
        poll(&mut fds, Some(&zero)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

impl Letter {
    /// Sends the reply; never blocks. That nobody waits for it any more is no concern of the machine.
    pub fn reply(self, reply: Reply) {
        // The channel has room for the one reply it will ever carry.
        let _ = self.reply.try_send(reply);
    }

    /// Whether its client still waits for a reply. What nobody waits for any more is not begun.
    pub fn is_wanted(&self) -> bool {
        !self.asker.has_gone()
    }

    /// Its client, for what goes on after the letter was read.
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }
}

impl Mailbox {
    /// A new pair of ends.
    pub fn new() -> io::Result<(Postbox, Self)> {
        let flags = EventfdFlags::SEMAPHORE | EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let wake = Arc::new(eventfd(0, flags)?);
        let (sender, letters) = channel();
        let postbox = Postbox { letters: sender, wake: wake.clone(), snapshotting: Arc::default() };
        Ok((postbox, Self { letters, wake }))
    }

    /// Readable while a letter waits; level-triggered, so one [`Self::try_take`] per wake-up loses nothing.
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The next letter; never blocks.
    pub fn try_take(&self) -> Option<Letter> {
        // Fails with EAGAIN when the count is zero, which the empty channel says as well.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        self.letters.try_recv().ok()
    }
}

impl Postbox {
    /// Hands `request` to the machine and waits for the reply, however long a snapshot takes; gives up when `closing`
    /// is set.
    ///
    /// A second snapshot while one is under way is refused here: it would otherwise wait for the first and then be
    /// taken of a moment that nobody asked for.
    pub fn ask(&self, request: Request, asker: Asker, closing: &AtomicBool) -> Reply {
        let is_snapshot = matches!(request, Request::Snapshot(_));
        if is_snapshot && self.snapshotting.swap(true, Ordering::AcqRel) {
            return Err(Fault::refused("a snapshot of this VM is already under way")
                .with_hint("wait for it to end, then ask again"));
        }
        let reply = self.deliver(request, asker, closing);
        if is_snapshot {
            self.snapshotting.store(false, Ordering::Release);
        }
        reply
    }

    fn deliver(&self, request: Request, asker: Asker, closing: &AtomicBool) -> Reply {
        let ended = || Fault::refused("the VM ended before it answered");
        let (reply, replies) = sync_channel(1);
        self.letters.send(Letter { request, reply, asker }).map_err(|_| ended())?;
        rustix::io::write(&self.wake, &1u64.to_ne_bytes())
            .map_err(|errno| Fault::of(&io::Error::from(errno)))?;
        loop {
            match replies.recv_timeout(CLOSING_CHECK) {
                Ok(reply) => return reply,
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
                Err(RecvTimeoutError::Timeout) if closing.load(Ordering::Acquire) => {
                    // The machine may have answered and begun to close since the time-out.
                    return replies.try_recv().unwrap_or_else(|_| Err(ended()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
