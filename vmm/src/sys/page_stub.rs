//! The other end of a handshake, for tests: a page server that does what it is told, well or badly.

use std::ffi::c_void;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use snapshot_format::handoff::{Handshake, MAX_HANDSHAKE_BYTES};
use userfaultfd::{Event, Uffd};

/// What a VMM has handed over.
pub(crate) struct Taken {
    pub(crate) handshake: Handshake,
    uffd: Uffd,
}

/// Waits for a handshake on `stream`.
pub(crate) fn take(stream: &UnixStream) -> Taken {
    let mut bytes = [0; MAX_HANDSHAKE_BYTES + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let read = recvmsg(stream, &mut into, &mut beside, RecvFlags::empty()).unwrap().bytes;
    let descriptors = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let fd = descriptors.expect("a descriptor comes beside the handshake").into_raw_fd();
    // SAFETY: a descriptor that was just received and that nobody else owns.
    let uffd = unsafe { Uffd::from_raw_fd(fd) };
    Taken { handshake: Handshake::parse(&bytes[..read]).unwrap(), uffd }
}

impl Taken {
    /// Waits up to `wait` for a fault, and says where in the memory file it is.
    pub(crate) fn fault(&self, wait: Duration) -> Option<u64> {
        let wait = Timespec::try_from(wait).unwrap();
        poll(&mut [PollFd::new(&self.uffd, PollFlags::IN)], Some(&wait)).unwrap();
        let Some(Event::Pagefault { addr, .. }) = self.uffd.read_event().unwrap() else { return None };
        let addr = addr as u64;
        let mapping = self
            .handshake
            .mappings
            .iter()
            .find(|at| (at.address..at.address + at.len).contains(&addr))
            .unwrap();
        Some(mapping.offset + (addr - mapping.address) / 4096 * 4096)
    }

    /// Fills each region by one request from `memory`, the whole memory file.
    pub(crate) fn fill(&self, memory: &[u8]) -> Result<(), userfaultfd::Error> {
        for mapping in &self.handshake.mappings {
            let from = &memory[mapping.offset as usize..][..mapping.len as usize];
            // SAFETY: fills pages that the VMM has registered for that, or fails.
            unsafe {
                self.uffd.copy(from.as_ptr().cast(), mapping.address as *mut c_void, from.len(), true)
            }?;
        }
        Ok(())
    }

    /// Delivers the page at `offset` of the memory file, and says whether it was wanted.
    pub(crate) fn deliver(&self, offset: u64, page: &[u8; 4096]) -> bool {
        let mapping = self
            .handshake
            .mappings
            .iter()
            .find(|at| (at.offset..at.offset + at.len).contains(&offset))
            .unwrap();
        let to = (mapping.address + (offset - mapping.offset)) as *mut c_void;
        // SAFETY: fills a page that the VMM has registered for that, or fails.
        unsafe { self.uffd.copy(page.as_ptr().cast(), to, page.len(), true) }.is_ok()
    }
}
