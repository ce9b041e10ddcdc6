//! A stand-in for a VMM: for tests and benchmarks, never for programs.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use snapshot_format::handoff::{Handshake, Hello, Mapping};

use crate::source::{Error, PageSource};
pub use crate::sys::testing::Memory;

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
