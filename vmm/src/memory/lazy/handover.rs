//! The handshake: what a page server is told of guest memory, and the descriptor beside it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use snapshot_format::handoff::{Handshake, Hello, Mapping, VERSION, spell_id};
use snapshot_format::pages::{PAGE_BYTES, Region};
use vm_memory::GuestMemoryBackend;

use super::{Error, Options};
use crate::memory::GuestRam;

/// The bytes of the first message. Every region is told whole: what of it is not to be delivered is not registered, and
/// who delivers there all the same is answered ENOENT. With the first of `wants`, a server of ours says that it is one, and
/// with the second as well, where there are zeros.
pub(super) fn handshake(
    ram: &GuestRam,
    placement: &[Region],
    options: &Options,
    tracks_writes: bool,
    wants: (bool, bool),
) -> Result<Vec<u8>, Error> {
    let mappings = ram.iter().zip(placement).map(|(mapped, region)| Mapping {
        address: mapped.host_address() as u64,
        len: region.pages().bytes(),
        offset: region.offset().get(),
        page_bytes: PAGE_BYTES,
    });
    let image_id = spell_id(&options.image_id);
    let hello = Hello {
        version: VERSION,
        image_id,
        prefetch: options.prefetch && !options.record,
        record: options.record,
        write_protect: (options.record && !tracks_writes).then_some(false),
        acknowledge: wants.0,
        zeros: wants.0 && wants.1,
    };
    Handshake { mappings: mappings.collect(), hello: Some(hello) }.encode().map_err(Error::Handshake)
}

/// Sends it.
pub(super) fn hand_over(stream: &UnixStream, handshake: &[u8], uffd: impl AsFd) -> io::Result<()> {
    let descriptors: [BorrowedFd<'_>; 1] = [uffd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !beside.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // NOSIGNAL: a server that has gone is an error, not the end of this process. It fits into any socket's buffer.
    let sent = sendmsg(stream, &[IoSlice::new(handshake)], &mut beside, SendFlags::NOSIGNAL)?;
    if sent == handshake.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
