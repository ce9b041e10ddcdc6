//! What an interface waits for beside its doorbells, behind one descriptor: its TAP, as far as it wants something of
//! it, its limits' timers, and a nudge.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use super::Tap;
use crate::device::virtio::rate::RateLimit;

/// An epoll set. Nobody asks it which of its descriptors is ready: the device looks at all.
#[derive(Debug)]
pub(super) struct Watch {
    set: OwnedFd,
    nudge: Arc<OwnedFd>,
    /// What the TAP is watched for; nothing if it is not in the set.
    wanted: EventFlags,
}

const DATA: EventData = EventData::new_u64(0);

impl Watch {
    pub(super) fn new(tap: &Tap, limits: [&RateLimit; 2]) -> io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let nudge = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&set, &nudge, DATA, EventFlags::IN)?;
        for timer in limits.into_iter().filter_map(RateLimit::source) {
            epoll::add(&set, timer, DATA, EventFlags::IN)?;
        }
        // Refused here, if ever, rather than when it is needed.
        epoll::add(&set, tap, DATA, EventFlags::IN)?;
        epoll::delete(&set, tap)?;
        Ok(Self { set, nudge: Arc::new(nudge), wanted: EventFlags::empty() })
    }

    /// Something that makes the set ready when it is written.
    pub(super) fn nudge(&self) -> &Arc<OwnedFd> {
        &self.nudge
    }

    /// Makes the set ready at once.
    pub(super) fn nudge_now(&self) {
        // Fails only if it was written 2^64 - 2 times already.
        let _ = rustix::io::write(&*self.nudge, &1_u64.to_ne_bytes());
    }

    /// The nudge has been heard, or not: it is silent after this.
    pub(super) fn acknowledge(&self) {
        // Fails if it was silent.
        let _ = rustix::io::read(&*self.nudge, &mut [0; 8]);
    }

    /// What the TAP is watched for from now on. One that is watched for nothing is not in the set, because the set
    /// would tell of its end for ever.
    pub(super) fn want(&mut self, tap: &Tap, frames: bool, room: bool) {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, frames);
        wanted.set(EventFlags::OUT, room);
        let done = match (self.wanted.is_empty(), wanted.is_empty()) {
            _ if wanted == self.wanted => return,
            (true, _) => epoll::add(&self.set, tap, DATA, wanted),
            (false, true) => epoll::delete(&self.set, tap),
            (false, false) => epoll::modify(&self.set, tap, DATA, wanted),
        };
        match done {
            Ok(()) => self.wanted = wanted,
            // It worked when the set was made; the kernel is short of memory.
            Err(error) => tracing::error!(%error, "a TAP cannot be watched"),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}
