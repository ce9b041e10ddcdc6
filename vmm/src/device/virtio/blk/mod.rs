//! Disks (virtio 1.2, 5.2): requests out of one queue to a file or a block device, side by side where the host has
//! io_uring, else one after the other.
//!
//! A device at rest has no request in flight, and all that was acknowledged is in
//! the host's page cache at least, as with a disk's own cache. What the guest has flushed is on the host's disk.

pub(crate) mod beneath;
mod disk;
mod engine;
mod format;
mod lock;
mod now;
mod overlay;
mod request;
mod saved;
mod storage;

#[cfg(test)]
mod blk_test;
#[cfg(test)]
mod disk_test;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

pub use crate::config::DiskId;
pub use disk::{Disk, Error, SECTOR};
pub use overlay::{CopyError, Frozen, ImageLayer, Overlay};
pub(super) use saved::KIND;
pub use saved::{Wiring, section};
pub use storage::{Leftover, Storage};

use super::rate::RateLimit;
use super::{Broken, ConfigSpace, Queues, VirtioDevice};
use engine::Engine;

/// The device ID.
const ID: u32 = 2;
/// One queue, for requests.
const QUEUES: [u16; 1] = [256];

/// Feature bits (5.2.3).
mod feature {
    pub(super) const SEG_MAX: u64 = 1 << 2;
    pub(super) const RO: u64 = 1 << 5;
    pub(super) const BLK_SIZE: u64 = 1 << 6;
    pub(super) const FLUSH: u64 = 1 << 9;
    pub(super) const DISCARD: u64 = 1 << 13;
    pub(super) const WRITE_ZEROES: u64 = 1 << 14;
}

/// The most bytes that one request may read or write, or clear: a machine that is to come to rest waits for one.
const MOST_BYTES: u64 = 64 << 20;
/// The most ranges in one request to discard, or to write zeroes.
const MOST_RANGES: u32 = 1;

/// A disk.
#[derive(Debug)]
pub struct Blk {
    // Configuration.
    id: DiskId,
    // Connections.
    storage: Storage,
    engine: Engine,
    /// Whether the log has heard that the host's disk fails: a guest may try as often as it likes.
    failure_logged: bool,
    // Guest-visible state.
    limit: RateLimit,
    config: Arc<ConfigSpace>,
    /// Whether the driver knows that it has to flush. Follows from the features that it has accepted.
    write_back: bool,
}

impl Blk {
    /// A disk over `storage`, without a limit.
    #[must_use]
    pub fn new(id: DiskId, storage: impl Into<Storage>) -> Self {
        let storage = storage.into();
        let config = Arc::new(ConfigSpace::new(config(&storage), 0..0));
        let (engine, limit) = (Engine::default(), RateLimit::none());
        Self { id, storage, engine, failure_logged: false, limit, config, write_back: false }
    }

    /// This disk with a limit on what the guest may ask of it.
    #[must_use]
    pub(crate) fn limited(self, limit: RateLimit) -> Self {
        Self { limit, ..self }
    }

    /// What it is called.
    #[must_use]
    pub fn id(&self) -> &DiskId {
        &self.id
    }

    /// See [`Storage::freeze`].
    ///
    /// # Errors
    /// As there.
    pub fn freeze(&mut self) -> Result<Option<Leftover>, Error> {
        self.storage.freeze()
    }
}

/// `struct virtio_blk_config` (5.2.4), as far as our features go.
fn config(disk: &Storage) -> Vec<u8> {
    let mut bytes = vec![0; 60];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let most_sectors = (MOST_BYTES / SECTOR) as u32;
    put(0, &(disk.len() / SECTOR).to_le_bytes());
    // seg_max: header and status take a descriptor each.
    put(12, &u32::from(QUEUES[0] - 2).to_le_bytes());
    // blk_size
    put(20, &(SECTOR as u32).to_le_bytes());
    // max_discard_sectors, max_discard_seg, discard_sector_alignment
    put(36, &most_sectors.to_le_bytes());
    put(40, &MOST_RANGES.to_le_bytes());
    put(44, &8_u32.to_le_bytes());
    // max_write_zeroes_sectors, max_write_zeroes_seg, write_zeroes_may_unmap
    put(48, &most_sectors.to_le_bytes());
    put(52, &MOST_RANGES.to_le_bytes());
    put(56, &[1]);
    bytes
}

impl VirtioDevice for Blk {
    fn id(&self) -> u32 {
        ID
    }

    fn label(&self) -> String {
        format!("disk `{}`", self.id.as_str())
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &QUEUES
    }

    fn features(&self) -> u64 {
        let of_all = feature::SEG_MAX | feature::BLK_SIZE | feature::FLUSH;
        let of_kind =
            if self.storage.is_read_only() { feature::RO } else { feature::DISCARD | feature::WRITE_ZEROES };
        of_all | of_kind
    }

    fn config(&self) -> Arc<ConfigSpace> {
        Arc::clone(&self.config)
    }

    fn activate(&mut self, driver_features: u64) {
        self.write_back = driver_features & feature::FLUSH != 0;
    }

    fn reset(&mut self) {
        self.engine.reset();
    }

    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        self.engine.source().into_iter().chain(self.limit.source()).collect()
    }

    fn queue_ready(&mut self, queue: usize, queues: &mut Queues) -> Result<(), Broken> {
        let Some(queue) = queues.get_mut(queue) else { return Ok(()) };
        self.take_all(queue)
    }

    fn source_ready(&mut self, _source: usize, queues: &mut Queues) -> Result<(), Broken> {
        self.engine.acknowledge();
        self.limit.acknowledge();
        let Some(queue) = queues.get_mut(0) else { return Ok(()) };
        self.finish_done(queue)?;
        // There is room again for what had to wait, or there are tokens.
        self.take_all(queue)
    }

    fn drain(&mut self, queues: &mut Queues) -> Result<(), Broken> {
        self.limit.rest();
        let mut result = Ok(());
        while !self.engine.is_idle() {
            self.engine.wait()?;
            while let Some(done) = self.engine.done() {
                // What cannot be answered is completed all the same.
                let answered = match queues.get_mut(0) {
                    Some(queue) => self.finish(done, queue),
                    None => Ok(()),
                };
                result = result.and(answered);
            }
        }
        result
    }
}
