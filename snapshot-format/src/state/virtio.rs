//! The virtio devices: what their common transport holds, and what each type adds. One section per device.

use crate::codec::prelude::*;

/// One virtqueue: how the driver has set it up, and how far the device has come in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct VirtqueueState {
    /// The size that the device offers, in descriptors: a power of two.
    pub max_size: u16,
    /// The size that the driver has chosen (`QueueNum`). Means something once `ready` is set.
    pub size: u16,
    /// `QueueReady`.
    pub ready: bool,
    /// Guest-physical address of the descriptor table (`QueueDesc`).
    pub desc_table: u64,
    /// Guest-physical address of the available ring (`QueueDriver`).
    pub avail_ring: u64,
    /// Guest-physical address of the used ring (`QueueDevice`).
    pub used_ring: u64,
    /// The index in the available ring that the device takes next. Requests from here on were not begun.
    pub next_avail: u16,
    /// The index in the used ring that the device fills next. The driver was told of everything before it, as far as
    /// it wants to be told.
    pub next_used: u16,
}

/// The registers of a virtio-mmio device, version 2 (virtio 1.2, 4.2.2). Part of every virtio section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct VirtioMmioState {
    /// Which place and which interrupt the device has: 0 for the first of each.
    pub slot: u8,
    /// The features that were offered to this driver (`DeviceFeatures`).
    pub device_features: u64,
    /// The features that the driver has accepted (`DriverFeatures`).
    pub driver_features: u64,
    /// `DeviceFeaturesSel`.
    pub device_features_sel: u32,
    /// `DriverFeaturesSel`.
    pub driver_features_sel: u32,
    /// `QueueSel`.
    pub queue_sel: u32,
    /// `Status`, with DEVICE_NEEDS_RESET.
    pub status: u32,
    /// `InterruptStatus`: what the driver has not acknowledged.
    pub interrupt_status: u32,
    /// `ConfigGeneration`.
    pub config_generation: u32,
    /// The device-specific configuration space as the driver sees it.
    pub config: Vec<u8>,
    /// The queues, by number.
    pub queues: Vec<VirtqueueState>,
}

/// The entropy device. Section `virtio-rng`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct VirtioRngState {
    /// Its registers and its queue.
    pub transport: VirtioMmioState,
}

/// The balloon. Section `virtio-balloon`. Its configuration space says how large it is, and is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct VirtioBalloonState {
    /// Its registers and its queues.
    pub transport: VirtioMmioState,
}

/// A disk. Section `virtio-blk:ID`, with the name that the user gave it, which is its serial number as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct VirtioBlkState {
    /// Its registers and its queue.
    pub transport: VirtioMmioState,
    /// The absolute path of the file or block device behind it, as the system's bytes.
    pub path: Blob,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Whether what the guest writes goes to an overlay, so that the file stays as it is: then there is a section
    /// `overlay:ID`.
    pub overlay: bool,
    /// Its length in bytes: a multiple of 512.
    pub len: u64,
    /// When the file was last modified, in nanoseconds since 1970, as the file system says. 0 for a block device.
    pub modified_ns: i64,
    /// What the guest may ask of it.
    pub limit: RateLimitState,
}

/// A token bucket: so much of something in so much time, and what is left of it. Part of [`RateLimitState`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct TokenBucketState {
    /// Tokens that the bucket holds when it is full; 0 if nothing is limited, and then all else is 0 as well.
    pub size: u64,
    /// Milliseconds in which an empty bucket fills up.
    pub refill_ms: u64,
    /// Tokens that are there once, beside the bucket's own, and do not come back.
    pub burst: u64,
    /// Tokens in the bucket. Less than none if a request has cost more than there were: the next one waits for that.
    pub tokens: i64,
    /// What has flowed in beyond whole tokens, in parts of a token: so many of as many as the refill has nanoseconds.
    pub part: u64,
    /// What is left of `burst`.
    pub burst_left: u64,
}

/// What a queue may carry. All zero if nothing is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct RateLimitState {
    /// In bytes of data or of frames.
    pub bandwidth: TokenBucketState,
    /// In requests or frames.
    pub operations: TokenBucketState,
}

/// A network interface. Section `virtio-net:ID`, with the name that the user gave it. Its MAC address, MTU and link
/// status are in the configuration space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct VirtioNetState {
    /// Its registers and its queues: to the guest, from the guest, control.
    pub transport: VirtioMmioState,
    /// The name of the TAP interface behind it.
    pub tap: String,
    /// What the guest may receive.
    pub rx_limit: RateLimitState,
    /// What the guest may send.
    pub tx_limit: RateLimitState,
}

/// A stream between the guest and the host that the guest has to be told is no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct VsockResetState {
    /// The context that the guest took itself to speak to: 2 for the host, and another only if nobody was there.
    pub cid: u64,
    /// The type of socket: 1 for a stream, and another only if nobody was there.
    pub kind: u16,
    /// The port on the host's side.
    pub host_port: u32,
    /// The port on the guest's side.
    pub guest_port: u32,
}

/// The socket device. Section `virtio-vsock`. Connections are no part of an image; that there were some is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct VirtioVsockState {
    /// Its registers and its queues.
    pub transport: VirtioMmioState,
    /// The guest's context id: 3 to 2^32 - 2.
    pub cid: u32,
    /// The absolute path of the host's socket, as the system's bytes.
    pub path: Blob,
    /// Whom a guest that goes on without this process is owed an RST from, beside the event that resets everything: a
    /// packet that it has not read yet may make it believe in a connection after that.
    pub resets: Vec<VsockResetState>,
}

/// What a guest has written over the base of a disk. Section `overlay:ID`; the bytes are in the file `disk-ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct OverlayState {
    /// Bytes of the disk, and of the file: a multiple of 512.
    pub len: u64,
    /// The written sectors: the first one of a run and how many there are, for one run after the other, ascending, with
    /// other sectors in between.
    pub runs: Words,
    /// How many pages of the file have a byte other than 0.
    pub data_pages: u64,
    /// The sum of the file: see FORMAT.md.
    pub sum: u64,
}
