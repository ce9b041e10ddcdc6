//! A stand-in for a VMM, and a page-fault handler as others write it: for tests and benchmarks, never for programs.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use snapshot_format::handoff::{Handshake, Hello, Mapping};
use snapshot_format::pages::PAGE_BYTES;

use crate::source::{Error, PageSource};
use crate::sys::testing;
pub use crate::sys::testing::Memory;
use crate::sys::uffd::{self, Event};

/// Hands `memory` over, its bytes being those of the memory file from the start.
///
/// # Errors
/// Nobody listens any more.
pub fn hand_over(socket: &UnixStream, memory: &Memory, hello: Option<Hello>) -> io::Result<()> {
    send(socket, &encoded(vec![memory.mapping(0)], hello), &[memory.uffd()])
}

/// A handshake's bytes, true or not.
#[must_use]
pub fn encoded(mappings: Vec<Mapping>, hello: Option<Hello>) -> Vec<u8> {
    Handshake { mappings, hello }.encode().expect("a handshake of a test is short")
}

/// Sends bytes with descriptors beside them.
///
/// # Errors
/// Nobody listens any more.
pub fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)), "a test sends few descriptors");
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Memory whose every page can be told from its offset: page N begins with N + 1, a byte for as long as it lasts, and
/// every `zero`th page is zero.
#[derive(Debug)]
pub struct Pattern {
    /// Bytes.
    pub len: u64,
    /// 0 for none.
    pub zero: u64,
    /// From where on reading fails; beyond [`Self::len`] for never.
    pub fails_from: u64,
}

impl Pattern {
    /// What a byte of page number `page` is.
    #[must_use]
    pub fn byte(&self, page: u64) -> u8 {
        if self.zero > 0 && page.is_multiple_of(self.zero) { 0 } else { (page % 255) as u8 + 1 }
    }
}

impl PageSource for Pattern {
    fn len(&self) -> u64 {
        self.len
    }

    fn zeros(&self, _offset: u64) -> u64 {
        0
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if offset + buffer.len() as u64 > self.fails_from {
            let what = "the pattern".to_owned();
            return Err(Error::Damaged { what, offset, how: "the test wants it so".to_owned() });
        }
        for (page, bytes) in (offset / 4096..).zip(buffer.chunks_mut(4096)) {
            bytes.fill(self.byte(page));
        }
        Ok(())
    }
}

/// A userfaultfd of which nobody has said which features it is to have: it tells of nothing, ever.
///
/// # Errors
/// The system has none for us.
pub fn unspoken() -> io::Result<OwnedFd> {
    testing::unspoken()
}

/// A page-fault handler that was written for Firecracker: it reads the first message once, into 1024 bytes, answers a fault
/// by what it is told to, and never speaks.
pub struct Handler {
    socket: UnixStream,
    memory: uffd::Memory,
    mappings: Vec<Mapping>,
}

impl Handler {
    /// Receives the handshake of a VMM that has connected.
    ///
    /// # Errors
    /// It is none, or there is no descriptor beside it.
    pub fn receive(socket: UnixStream) -> io::Result<Self> {
        let mut bytes = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        let descriptor = descriptor.ok_or(io::ErrorKind::InvalidData)?;
        let Handshake { mappings, .. } = Handshake::parse(&bytes[..got.bytes]).map_err(io::Error::other)?;
        Ok(Self { socket, memory: uffd::Memory::new(descriptor)?, mappings })
    }

    /// Until the VMM goes: has `answer` answer each fault, by the page's address and its offset in the memory file.
    ///
    /// # Errors
    /// The kernel does not tell of faults.
    pub fn run(mut self, mut answer: impl FnMut(&Self, u64, u64)) -> io::Result<()> {
        let mut events = Vec::new();
        loop {
            let mut watched =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.memory, PollFlags::IN)];
            poll(&mut watched, None)?;
            let [spoken, faulted] = watched.map(|watched| !watched.revents().is_empty());
            if spoken && self.socket.read(&mut [0; 64]).is_ok_and(|read| read == 0) {
                return Ok(());
            }
            if faulted {
                self.memory.read(&mut events)?;
            }
            for event in events.drain(..) {
                let Event::Fault { address, .. } = event else { continue };
                let address = address - address % PAGE_BYTES;
                let within = |m: &&Mapping| (m.address..m.address + m.len).contains(&address);
                let mapping = self.mappings.iter().find(within).ok_or(io::ErrorKind::InvalidData)?;
                answer(&self, address, mapping.offset + (address - mapping.address));
            }
        }
    }

    /// The regions, as they were handed over.
    #[must_use]
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// Places pages, and says how many bytes of them.
    ///
    /// # Errors
    /// As of `UFFDIO_COPY`.
    pub fn place_all(&self, address: u64, bytes: &[u8]) -> io::Result<u64> {
        Ok(self.memory.copy(address, bytes, false)?)
    }

    /// Places pages.
    ///
    /// # Errors
    /// As of `UFFDIO_COPY`.
    pub fn place(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        self.memory.copy(address, bytes, false)?;
        Ok(())
    }
}
