//! What a type of device adds to the transport.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{Broken, ConfigSpace, Queues};

/// A type of device. It lives on its worker's thread while the driver uses it and the machine runs, else in the
/// transport; it never knows which, and never blocks for longer than one request takes.
///
/// No default bodies, so that a new type thinks about each.
pub trait VirtioDevice: Send + 'static {
    /// The device ID (virtio 1.2, 5).
    fn id(&self) -> u32;

    /// What it is called in messages: "disk `root`". Always the same.
    fn label(&self) -> String;

    /// The largest size of each queue, powers of two. Always the same.
    fn queue_sizes(&self) -> &'static [u16];

    /// The features that it offers beside those of every device. Always the same.
    fn features(&self) -> u64;

    /// Its configuration space. Always the same one.
    fn config(&self) -> Arc<ConfigSpace>;

    /// The driver is ready, with these of the offered features; also called when a ready driver is restored.
    fn activate(&mut self, driver_features: u64);

    /// The driver has reset the device. Nothing of what went on before must have an effect after.
    fn reset(&mut self);

    /// Descriptors that the worker waits on beside the queues' doorbells, until they are readable. Asked when the
    /// worker starts, so a set that changes is an epoll descriptor of the device's own.
    fn sources(&self) -> Vec<BorrowedFd<'_>>;

    /// Queue number `queue` may hold requests. Comes once too often rather than once too seldom: whenever the worker
    /// starts, for example.
    ///
    /// # Errors
    /// The driver has broken a rule. The device is not asked again before a reset.
    fn queue_ready(&mut self, queue: usize, queues: &mut Queues) -> Result<(), Broken>;

    /// The descriptor at `source` in [`Self::sources`] is readable.
    ///
    /// # Errors
    /// As [`Self::queue_ready`].
    fn source_ready(&mut self, source: usize, queues: &mut Queues) -> Result<(), Broken>;

    /// The machine is coming to rest, or the driver resets the device: every request that was taken from a queue is
    /// completed before this returns.
    ///
    /// # Errors
    /// As [`Self::queue_ready`].
    fn drain(&mut self, queues: &mut Queues) -> Result<(), Broken>;
}
