//! A device's configuration space (virtio 1.2, 2.5): bytes that the driver reads, some of which it may write.
//!
//! Knows neither what the bytes mean nor how the driver is told that they have changed.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The space, shared by the transport, which gives the driver access, and the device, which gives it meaning.
#[derive(Debug)]
pub struct ConfigSpace {
    /// What the driver may write.
    writable: Range<usize>,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    /// Never changes its length.
    bytes: Vec<u8>,
    generation: u32,
    /// Bytes that the device wants to hear of when the driver reads one, and how.
    watched: Option<(Range<usize>, Arc<OwnedFd>)>,
}

impl ConfigSpace {
    /// A space of these bytes, of which the driver may write `writable`.
    #[must_use]
    pub fn new(bytes: Vec<u8>, writable: Range<usize>) -> Self {
        Self { writable, now: Mutex::new(Now { bytes, generation: 0, watched: None }) }
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Counts the device's changes: a driver that reads the same number before and after several fields has read
    /// fields that belong together.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.lock().generation
    }

    /// The device changes bytes. The driver has to be told: [`super::transport::Interrupt::config_changed`].
    pub fn change(&self, change: impl FnOnce(&mut [u8])) {
        let mut now = self.lock();
        change(&mut now.bytes);
        now.generation = now.generation.wrapping_add(1);
    }

    /// Writes `event`, an eventfd, when the driver next reads one of the bytes `range`. Takes the place of what was
    /// watched before.
    pub fn watch(&self, range: Range<usize>, event: Arc<OwnedFd>) {
        self.lock().watched = Some((range, event));
    }

    /// Whether the driver has not read yet what is watched.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.lock().watched.is_some()
    }

    /// Watches nothing.
    pub fn unwatch(&self) {
        self.lock().watched = None;
    }

    /// Puts back what was saved: whether it is as long as the space.
    pub(super) fn restore(&self, bytes: &[u8], generation: u32) -> bool {
        let mut now = self.lock();
        if now.bytes.len() != bytes.len() {
            return false;
        }
        now.bytes.copy_from_slice(bytes);
        now.generation = generation;
        true
    }

    /// The driver reads. What lies beyond the end is left as it is.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let mut now = self.lock();
        let Ok(offset) = usize::try_from(offset) else { return };
        let end = offset.saturating_add(data.len());
        if let Some((_, event)) = now.watched.take_if(|(range, _)| offset < range.end && range.start < end) {
            // Fails only if it was written 2^64 - 2 times already.
            let _ = rustix::io::write(&*event, &1_u64.to_ne_bytes());
        }
        for (byte, place) in data.iter_mut().zip(now.bytes.iter().skip(offset)) {
            *byte = *place;
        }
    }

    /// The driver writes. What it may not write keeps its value.
    pub(super) fn write(&self, offset: u64, data: &[u8]) {
        let mut now = self.lock();
        let Ok(offset) = usize::try_from(offset) else { return };
        for (at, byte) in (offset..now.bytes.len()).zip(data) {
            if self.writable.contains(&at) {
                now.bytes[at] = *byte;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
