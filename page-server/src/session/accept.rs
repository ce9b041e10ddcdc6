//! The handshake: bytes and a descriptor from somebody who may be anybody.

#[cfg(test)]
#[path = "accept_test.rs"]
mod accept_test;

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use snapshot_format::handoff::{self, FromServer, Handshake, Hello};
use snapshot_format::pages::PAGE_BYTES;

use super::foreign::Foreign;
use super::lookout::Lookout;
use super::lost::{FORSAKING, forsake, warn_of_kernel};
use super::run::{chain, say};
use super::{Error, Options, Peer, Session};
use crate::fault::{Deliverer, Grain, Place, Space};
use crate::image::Served;
use crate::prefetch::{Members, Queue, Step};
use crate::stats::Stats;
use crate::sys::uffd::Memory;

/// The most bytes of a handshake that are read: others may send more than ours, for more regions.
const MAX_BYTES: usize = 16 << 10;
/// The most descriptors that are received, to be counted and closed; the kernel closes what is beyond.
const MAX_DESCRIPTORS: usize = 8;

/// What a VMM has handed over.
pub(crate) struct Received {
    pub(crate) socket: UnixStream,
    pub(crate) handshake: Handshake,
    pub(crate) memory: Memory,
    /// The process of a VMM that is not ours.
    pub(crate) peer: Option<Arc<Peer>>,
}

impl Received {
    /// The image that is meant, if it is served.
    pub(crate) fn image<'a>(&self, served: &'a [Arc<Served>]) -> Option<&'a Arc<Served>> {
        choose(&self.handshake, served).ok()
    }

    /// What has to be done with its memory if it is not served, for another thread: nothing with that of one of ours.
    pub(crate) fn foreign(&self) -> Option<Foreign> {
        let peer = Arc::clone(self.peer.as_ref()?);
        Some(Foreign { memory: self.memory.share(), mappings: self.handshake.mappings.clone(), peer })
    }
}

/// Receives the handshake. A VMM of ours that is refused is told why.
///
/// # Errors
/// It does not come in time, is no handshake, or comes without a userfaultfd.
pub(crate) fn receive(mut socket: UnixStream, limit: Duration) -> Result<Received, Error> {
    let (handshake, descriptors) = match message(&socket, limit) {
        // It has said that it is one of ours.
        Err(error @ Error::Handshake(handoff::Error::Version { .. })) => {
            refuse(&mut socket, true, &error);
            return Err(error);
        }
        received => received?,
    };
    match userfaultfd(descriptors) {
        Ok(memory) => {
            let peer = handshake.hello.is_none().then(|| Arc::new(Peer::of(&socket)));
            Ok(Received { socket, handshake, memory, peer })
        }
        Err(error) => {
            refuse(&mut socket, handshake.hello.is_some(), &error);
            Err(error)
        }
    }
}

/// Serves a VM nothing: one of ours that has connected finds the connection closed, and looks for another server; any other
/// comes to its end. What has not come within `limit` is nobody's handshake.
pub(crate) fn turn_away(socket: UnixStream, limit: Duration) {
    if let Some(foreign) = receive(socket, limit).ok().and_then(|received| received.foreign()) {
        forsake(foreign, Instant::now() + FORSAKING);
    }
}

fn userfaultfd(mut descriptors: Vec<OwnedFd>) -> Result<Memory, Error> {
    let count = descriptors.len();
    match (descriptors.pop(), count) {
        (Some(descriptor), 1) => Memory::new(descriptor).map_err(Error::Descriptor),
        _ => Err(Error::Descriptors { count }),
    }
}

/// Tells a VMM why it is not served, if it understands.
pub(super) fn refuse(socket: &mut UnixStream, is_ours: bool, why: &Error) {
    if is_ours {
        say(socket, &FromServer::Refused { cause: chain(why) });
    }
}

/// Reads until the bytes are a whole handshake: it is not framed, and a stream may deliver it in pieces.
fn message(socket: &UnixStream, limit: Duration) -> Result<(Handshake, Vec<OwnedFd>), Error> {
    let deadline = Instant::now() + limit;
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait(socket, left)? {
            return Err(Error::Late { limit });
        }
        let before = bytes.len();
        match receive_some(socket, &mut bytes, &mut descriptors) {
            Err(Errno::INTR | Errno::AGAIN) => continue,
            // Busy is not refused: a VMM of ours that finds the connection closed comes again.
            Err(Errno::MFILE) => return Err(Error::NoRoom),
            received => received.map_err(Error::Receive)?,
        }
        if bytes.len() == before {
            return Err(Error::Closed { len: before });
        }
        // With every piece there may be some, and all sessions together have so many and no more.
        if descriptors.len() > 1 {
            return Err(Error::Descriptors { count: descriptors.len() });
        }
        match Handshake::parse(&bytes) {
            Ok(handshake) => return Ok((handshake, descriptors)),
            Err(handoff::Error::Json(why)) if why.is_eof() && bytes.len() < MAX_BYTES => {}
            Err(handoff::Error::Json(why)) if why.is_eof() => return Err(Error::TooLong { max: MAX_BYTES }),
            Err(why) => return Err(Error::Handshake(why)),
        }
    }
}

fn wait(socket: &UnixStream, left: Duration) -> Result<bool, Error> {
    let timeout = Timespec::try_from(left).ok();
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(Error::Receive(errno)),
    }
}

fn receive_some(
    socket: &UnixStream,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> Result<(), Errno> {
    let mut buffer = [0; 4096];
    let room = buffer.len().min(MAX_BYTES - bytes.len());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut buffer[..room])], &mut ancillary, flags)?;
    let before = descriptors.len();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    // The kernel drops those that it cannot install (`scm_detach_fds`), and says so. There was room in the message.
    if got.flags.contains(ReturnFlags::CTRUNC) && descriptors.len() - before < MAX_DESCRIPTORS {
        return Err(Errno::MFILE);
    }
    bytes.extend_from_slice(&buffer[..got.bytes]);
    Ok(())
}

/// The image that is meant: by its name, or the only one that it can be.
pub(super) fn choose<'a>(handshake: &Handshake, served: &'a [Arc<Served>]) -> Result<&'a Arc<Served>, Error> {
    // No sum wraps: both were checked.
    let end = handshake.mappings.iter().map(|mapping| mapping.offset + mapping.len).max().unwrap_or(0);
    let image = match &handshake.hello {
        Some(hello) => {
            let named =
                |image: &&Arc<Served>| image.id().is_some_and(|id| handoff::spell_id(&id) == hello.image_id);
            served.iter().find(named).ok_or_else(|| Error::NoSuchImage { id: hello.image_id.clone() })?
        }
        None => {
            let mut fitting = served.iter().filter(|image| image.source().len() == end);
            match (fitting.next(), fitting.count()) {
                (Some(image), 0) => image,
                (first, others) => {
                    return Err(Error::Which { fitting: usize::from(first.is_some()) + others, bytes: end });
                }
            }
        }
    };
    let len = image.source().len();
    if end > len { Err(Error::Beyond { end, len }) } else { Ok(image) }
}

pub(super) fn session(received: Received, image: &Arc<Served>, options: &Options, stats: Stats) -> Session {
    let Received { mut socket, handshake, memory, peer } = received;
    let is_ours = handshake.hello.is_some();
    if !is_ours {
        warn_of_kernel(&memory);
    }
    if handshake.hello.as_ref().is_some_and(|hello| hello.acknowledge) {
        say(&mut socket, &FromServer::Serving);
        if handshake.hello.as_ref().is_some_and(|hello| hello.zeros) {
            FromServer::zeros(image.zeros()).for_each(|zeros| say(&mut socket, &zeros));
        }
    }
    let (prefetch, record) = handshake.hello.as_ref().map_or((true, false), |h| (h.prefetch, h.record));
    let protect = handshake.hello.as_ref().is_some_and(Hello::protects);
    let wanted = image.working_set().filter(|_| prefetch && options.prefetch && !record);
    let steps = || {
        wanted
            .into_iter()
            .flat_map(|set| set.runs())
            .map(|run| Step { offset: run.first * PAGE_BYTES, len: run.pages * PAGE_BYTES })
    };
    let grain = if record { Grain::single() } else { options.grain };
    let place = Place { memory, space: Space::new(&handshake.mappings), protect };
    let source = Arc::clone(image.source());
    let mut deliverer = Deliverer::new(place, source, grain, stats, options.trace.clone());
    deliverer.expect(Members::new(steps()));
    deliverer.read_beside();
    let ahead = Queue::new(steps());
    let (lookout, options) = (Lookout::default(), options.clone());
    let (lost, losses, is_kept) = (None, 0, false);
    Session { socket, deliverer, ahead, is_ours, peer, lost, losses, is_kept, lookout, options }
}
