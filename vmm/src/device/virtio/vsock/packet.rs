//! Packets (virtio 1.2, 5.10.6): a header, and data behind it if there is any.

use super::super::{Broken, Chain};
use crate::memory::GuestRam;

/// Bytes of a header (`struct virtio_vsock_hdr`).
pub(super) const HEADER: u32 = 44;
/// The host's context id.
pub(super) const HOST_CID: u64 = 2;
/// The one type of socket that we offer.
pub(super) const STREAM: u16 = 1;
/// No port: `VMADDR_PORT_ANY` of Linux's `vm_sockets.h`.
pub(super) const NO_PORT: u32 = u32::MAX;

/// What a packet is for.
pub(super) mod op {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const RESPONSE: u16 = 2;
    pub(crate) const RST: u16 = 3;
    pub(crate) const SHUTDOWN: u16 = 4;
    pub(crate) const RW: u16 = 5;
    pub(crate) const CREDIT_UPDATE: u16 = 6;
    pub(crate) const CREDIT_REQUEST: u16 = 7;
}

/// Flags of SHUTDOWN: what its sender will not do any more.
pub(super) mod shutdown {
    pub(crate) const RECEIVE: u32 = 1;
    pub(crate) const SEND: u32 = 2;
    pub(crate) const BOTH: u32 = RECEIVE | SEND;
}

/// `struct virtio_vsock_hdr`, little-endian throughout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub src_cid: u64,
    pub dst_cid: u64,
    pub src_port: u32,
    pub dst_port: u32,
    /// Bytes of data behind the header.
    pub len: u32,
    pub kind: u16,
    pub op: u16,
    pub flags: u32,
    /// How much its sender keeps for the receiver of the data.
    pub buf_alloc: u32,
    /// How much of what the sender was given it has passed on, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Header {
    /// The header of the packet that the driver sends in `chain`; all of its data is in the chain, too.
    ///
    /// # Errors
    /// The chain is shorter.
    pub(super) fn read(chain: &Chain, memory: &GuestRam) -> Result<Self, Broken> {
        let broken = |problem| Broken::Chain { head: chain.head(), problem };
        let mut bytes = [0; HEADER as usize];
        if chain.readable.read(memory, 0, &mut bytes)? < bytes.len() {
            return Err(broken("is shorter than a packet's header"));
        }
        let header = Self::from_bytes(bytes);
        if header.len > chain.readable.len() - HEADER {
            return Err(broken("is shorter than its packet says"));
        }
        Ok(header)
    }

    pub(super) fn from_bytes(bytes: [u8; HEADER as usize]) -> Self {
        let mut rest = &bytes[..];
        Self {
            src_cid: u64::from_le_bytes(take(&mut rest)),
            dst_cid: u64::from_le_bytes(take(&mut rest)),
            src_port: u32::from_le_bytes(take(&mut rest)),
            dst_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            kind: u16::from_le_bytes(take(&mut rest)),
            op: u16::from_le_bytes(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
            buf_alloc: u32::from_le_bytes(take(&mut rest)),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)),
        }
    }

    pub(super) fn bytes(&self) -> [u8; HEADER as usize] {
        let Self { src_cid, dst_cid, src_port, dst_port, len, kind, op, flags, buf_alloc, fwd_cnt } = self;
        let mut bytes = [0; HEADER as usize];
        let mut rest = &mut bytes[..];
        put(&mut rest, &src_cid.to_le_bytes());
        put(&mut rest, &dst_cid.to_le_bytes());
        put(&mut rest, &src_port.to_le_bytes());
        put(&mut rest, &dst_port.to_le_bytes());
        put(&mut rest, &len.to_le_bytes());
        put(&mut rest, &kind.to_le_bytes());
        put(&mut rest, &op.to_le_bytes());
        put(&mut rest, &flags.to_le_bytes());
        put(&mut rest, &buf_alloc.to_le_bytes());
        put(&mut rest, &fwd_cnt.to_le_bytes());
        bytes
    }
}

/// The next `N` bytes. The fields are as long as the header, all together.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&rest[..N]);
    *rest = &rest[N..];
    taken
}

fn put(rest: &mut &mut [u8], field: &[u8]) {
    let (here, behind) = std::mem::take(rest).split_at_mut(field.len());
    here.copy_from_slice(field);
    *rest = behind;
}

/// A connection's two ports: its name, as long as there is one host and one guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    /// On the host's side.
    pub host: u32,
    /// On the guest's side.
    pub guest: u32,
}
