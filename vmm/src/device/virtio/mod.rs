//! virtio devices (virtio 1.2) on the MMIO transport, without PCI.
//!
//! ```text
//!   vCPU: registers --> transport::Mmio --- starts, stops --> worker thread
//!   vCPU: doorbell ---- KVM_IOEVENTFD -----------------------> | VirtioDevice + Queues
//!   vCPU: interrupt <-- KVM_IRQFD <-- Interrupt <------------- |
//! ```
//!
//! The registers belong to vCPU threads, a device and its queues to its worker, and only the interrupt status and the
//! configuration space to both. A device at rest is a plain value without a thread: see [`transport::Mmio::quiesce`].
//!
//! Guest memory is the driver's to write at any time, so nothing in it is trusted: rings and chains are read once,
//! checked, and bounded. A driver that breaks the rules stops its own device, which then asks for a reset.

pub mod balloon;
pub mod blk;
mod config_space;
mod device;
pub mod net;
mod queue;
pub mod rate;
#[cfg(any(test, feature = "testing"))]
pub mod rig;
pub mod rng;
mod set;
mod slot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
pub mod vsock;

#[cfg(test)]
mod mock;
#[cfg(test)]
mod rig_test;
#[cfg(test)]
mod testing_test;

pub use config_space::ConfigSpace;
pub use device::VirtioDevice;
pub use queue::{Broken, Buffers, Chain, Queues, SetupError, Virtqueue};
pub use set::{DiskLeftover, Doorbell, Error, Outside, Parts, SavedParts, VirtioSet, VirtioSetState};
pub use slot::{COUNT as SLOTS, Slot};

/// Feature bits that are not a device type's (virtio 1.2, 6).
pub mod feature {
    /// A descriptor may point to a table of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Both sides say at which index they want to be notified.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The device follows the standard rather than its drafts. Without it there is no negotiation.
    pub const VERSION_1: u64 = 1 << 32;
    /// What the transport and the queues offer for every device.
    pub(super) const OF_EVERY_DEVICE: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1;
}
