//! What the interface offers, and its configuration space.

use std::ops::Range;

use crate::config::MacAddr;

/// Feature bits (5.1.3).
///
/// What only some hosts' TAPs can do (UDP segmentation) is not among them: an image goes to any host.
pub(super) mod feature {
    pub(crate) const CSUM: u64 = 1 << 0;
    pub(crate) const GUEST_CSUM: u64 = 1 << 1;
    pub(crate) const MTU: u64 = 1 << 3;
    pub(crate) const MAC: u64 = 1 << 5;
    pub(crate) const GUEST_TSO4: u64 = 1 << 7;
    pub(crate) const GUEST_TSO6: u64 = 1 << 8;
    pub(crate) const GUEST_ECN: u64 = 1 << 9;
    pub(crate) const HOST_TSO4: u64 = 1 << 11;
    pub(crate) const HOST_TSO6: u64 = 1 << 12;
    pub(crate) const HOST_ECN: u64 = 1 << 13;
    pub(crate) const MRG_RXBUF: u64 = 1 << 15;
    pub(crate) const STATUS: u64 = 1 << 16;
    pub(crate) const CTRL_VQ: u64 = 1 << 17;
    pub(crate) const GUEST_ANNOUNCE: u64 = 1 << 21;

    /// What every interface of ours has.
    pub(crate) const OF_ALL: u64 = CSUM
        | GUEST_CSUM
        | MTU
        | GUEST_TSO4
        | GUEST_TSO6
        | GUEST_ECN
        | HOST_TSO4
        | HOST_TSO6
        | HOST_ECN
        | MRG_RXBUF
        | STATUS
        | CTRL_VQ
        | GUEST_ANNOUNCE;
}

/// Bits of the configuration's `status` (5.1.4).
pub(super) mod link {
    pub(crate) const UP: u16 = 1;
    pub(crate) const ANNOUNCE: u16 = 2;
}

/// Where `status` lies.
pub(super) const STATUS: Range<usize> = 6..8;

/// Where `mtu` lies.
pub(super) const MTU: Range<usize> = 10..12;

/// `struct virtio_net_config` (5.1.4), as far as our features go: mac, status, max_virtqueue_pairs, mtu.
pub(super) fn config(mac: Option<MacAddr>, mtu: u16) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    if let Some(mac) = mac {
        bytes[..6].copy_from_slice(&mac.bytes());
    }
    bytes[STATUS].copy_from_slice(&link::UP.to_le_bytes());
    bytes[MTU].copy_from_slice(&mtu.to_le_bytes());
    bytes
}
