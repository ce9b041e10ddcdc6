//! The console's input: read no faster than the guest takes it, so that nothing is lost and nothing spins.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use event_manager::EventOps;
use vmm_sys_util::eventfd::EventFd;

use super::{Ending, Supervisor, Token};
use crate::device::DeviceSet;

/// How long to leave a console alone that a vCPU is writing to.
const RETRY: Duration = Duration::from_millis(5);

/// How much that was typed on a terminal is kept for a guest that does not take it, in bytes. What is typed beyond that
/// is lost but for the keys that quit, which must work whatever the guest does.
const TYPED_AHEAD: usize = 4096;

/// Looks at what is typed before the guest gets it.
pub trait Filter {
    /// Takes bytes as they were read.
    fn pass(&mut self, bytes: &[u8]) -> Passed;
}

/// What a [`Filter`] makes of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// What the guest gets.
    pub bytes: Vec<u8>,
    /// Whether the person at the terminal wants to quit.
    pub quit: bool,
}

/// A source of console input.
pub struct Input {
    /// Where it comes from: a pipe, a terminal, a file.
    pub source: File,
    /// For a terminal; `None` leaves the bytes unchanged.
    pub filter: Option<Box<dyn Filter>>,
}

/// A source, and how the event loop stands to it.
pub(super) struct Feed {
    input: Input,
    drained: Arc<EventFd>,
    state: FeedState,
    /// Typed and filtered, for the guest to take; at most [`TYPED_AHEAD`] bytes. Empty without a filter.
    typed: VecDeque<u8>,
    /// Whether a vCPU was writing to the console when there was something for it, and nobody will say when it is done.
    retry: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FeedState {
    /// epoll tells when there is something to read.
    Watched,
    /// The guest has no room or does not run: epoll is not asked.
    Unwatched,
    /// A regular file is always readable, and epoll refuses it (epoll_ctl(2), EPERM): it is read whenever there is
    /// room.
    Regular,
    /// At its end.
    Closed,
}

/// What came of one read.
enum Pumped {
    /// The guest got bytes, or there were none just now.
    Some,
    /// The guest has no room; it will say when it has.
    Full,
    /// A vCPU is in the console.
    Busy,
    /// There will be no more.
    End,
    /// The person at the terminal wants to quit.
    Quit,
}

impl Feed {
    pub(super) fn new(input: Input, drained: Arc<EventFd>) -> Self {
        Self { input, drained, state: FeedState::Unwatched, typed: VecDeque::new(), retry: false }
    }

    /// Puts the source, and the guest's word that there is room, into the event loop.
    pub(super) fn open(&mut self, ops: &mut EventOps<'_>) {
        match ops.add(Token::Drained.event(&*self.drained)) {
            Ok(()) => self.watch(ops),
            Err(e) => self.give_up(&e),
        }
    }

    /// Watches the source, unless it is at its end.
    pub(super) fn watch(&mut self, ops: &mut EventOps<'_>) {
        match self.state {
            FeedState::Unwatched => {}
            FeedState::Regular => return self.nudge(),
            FeedState::Watched | FeedState::Closed => return,
        }
        match ops.add(Token::Input.event(&self.input.source)) {
            Ok(()) => self.state = FeedState::Watched,
            Err(event_manager::Error::Epoll(e)) if e.errno() == libc::EPERM => {
                self.state = FeedState::Regular;
                self.nudge();
            }
            Err(e) => self.give_up(&e),
        }
    }

    /// When to try again what nobody will call for.
    pub(super) fn retry_in(&self) -> Option<Duration> {
        self.retry.then_some(RETRY)
    }

    /// Says "there is room" in the guest's place.
    fn nudge(&self) {
        // Fails only if it was said 2^64 - 2 times and not heard.
        let _ = self.drained.write(1);
    }

    fn give_up(&mut self, why: &event_manager::Error) {
        tracing::warn!(error = %why, "the guest gets no console input");
        self.state = FeedState::Closed;
    }

    fn unwatch(&mut self, ops: &mut EventOps<'_>) {
        if self.state == FeedState::Watched {
            // Fails only if the source is not watched.
            let _ = ops.remove(Token::Input.event(&self.input.source));
            self.state = FeedState::Unwatched;
        }
    }

    fn close(&mut self, ops: &mut EventOps<'_>) {
        self.unwatch(ops);
        self.state = FeedState::Closed;
    }

    fn is_typed(&self) -> bool {
        self.input.filter.is_some()
    }

    /// Reads once into `buffer`: how much was read, or what else there is to say.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Pumped> {
        match self.input.source.read(buffer) {
            Ok(0) => Err(Pumped::End),
            Ok(read) => Ok(read),
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Err(Pumped::Some)
            }
            Err(e) => {
                tracing::warn!(error = %e, "the guest gets no more console input");
                Err(Pumped::End)
            }
        }
    }

    /// Reads what was typed, whether or not the guest can take it now: among it may be the keys that quit.
    fn read_typed(&mut self) -> Pumped {
        let mut buffer = [0; 64];
        let read = match self.read(&mut buffer) {
            Ok(read) => read,
            Err(said) => return said,
        };
        let Some(filter) = &mut self.input.filter else { return Pumped::Some };
        let Passed { bytes, quit } = filter.pass(&buffer[..read]);
        let room = TYPED_AHEAD - self.typed.len();
        self.typed.extend(bytes.into_iter().take(room));
        if quit { Pumped::Quit } else { Pumped::Some }
    }

    /// Gives the guest what was typed, as much as it takes.
    pub(super) fn deliver(&mut self, devices: &DeviceSet) {
        self.retry = false;
        if self.typed.is_empty() {
            return;
        }
        let Some(mut serial) = devices.try_serial() else {
            self.retry = true;
            return;
        };
        // A guest without room says so when it has; `room` has asked it to.
        let fits = serial.room().min(self.typed.len());
        let bytes: Vec<u8> = self.typed.drain(..fits).collect();
        let taken = serial.receive(&bytes);
        for &byte in bytes[taken..].iter().rev() {
            self.typed.push_front(byte);
        }
    }

    /// Reads once from a source that waits, as much as the guest takes: nothing is lost, and nothing is kept here.
    fn pump(&mut self, devices: &DeviceSet) -> Pumped {
        let Some(mut serial) = devices.try_serial() else {
            // Waiting for the vCPU, which may write to nobody, would keep signals and pauses waiting, too.
            self.retry = true;
            return Pumped::Busy;
        };
        self.retry = false;
        let mut buffer = [0; 64];
        let room = serial.room().min(buffer.len());
        if room == 0 {
            return Pumped::Full;
        }
        match self.read(&mut buffer[..room]) {
            Ok(read) => {
                let taken = serial.receive(&buffer[..read]);
                debug_assert_eq!(taken, read, "no more was read than there was room for");
                Pumped::Some
            }
            Err(said) => said,
        }
    }
}

impl Supervisor<'_> {
    /// The source can be read.
    pub(super) fn input_ready(&mut self, ops: &mut EventOps<'_>) {
        let Some(feed) = &mut self.input else { return };
        let running = self.life.is_running();
        let pumped = match (feed.is_typed(), running) {
            (true, _) => feed.read_typed(),
            (false, true) => feed.pump(self.life.devices()),
            (false, false) => return feed.unwatch(ops),
        };
        match pumped {
            Pumped::Some if feed.is_typed() && running => feed.deliver(self.life.devices()),
            Pumped::Some => {}
            Pumped::Full | Pumped::Busy => feed.unwatch(ops),
            Pumped::End => feed.close(ops),
            Pumped::Quit => self.end(Ok(Ending::Quit)),
        }
    }

    /// The guest has room, or runs again.
    pub(super) fn input_room(&mut self, ops: &mut EventOps<'_>) {
        let Some(feed) = &mut self.input else { return };
        let _ = feed.drained.read();
        if !self.life.is_running() {
            return;
        }
        feed.deliver(self.life.devices());
        if feed.state != FeedState::Regular {
            return feed.watch(ops);
        }
        loop {
            match feed.pump(self.life.devices()) {
                Pumped::Some => {}
                Pumped::Full | Pumped::Busy => return,
                Pumped::End => return feed.close(ops),
                Pumped::Quit => return self.end(Ok(Ending::Quit)),
            }
        }
    }

    /// What could not be done while a vCPU was in the console is tried again, as if there were room.
    pub(super) fn retry_input(&self) {
        if let Some(feed) = &self.input
            && feed.retry
        {
            feed.nudge();
        }
    }
}
