//! The transport's own registers: their places, and what they hold. Knows nothing of queues in use, or of threads.

use super::super::queue::QueueRegisters;

/// Places, in bytes from the device's base (virtio 1.2, 4.2.2, table 4.1).
pub(super) mod place {
    pub(crate) const MAGIC: u64 = 0x000;
    pub(crate) const VERSION: u64 = 0x004;
    pub(crate) const DEVICE_ID: u64 = 0x008;
    pub(crate) const VENDOR_ID: u64 = 0x00c;
    pub(crate) const DEVICE_FEATURES: u64 = 0x010;
    pub(crate) const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub(crate) const DRIVER_FEATURES: u64 = 0x020;
    pub(crate) const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub(crate) const QUEUE_SEL: u64 = 0x030;
    pub(crate) const QUEUE_NUM_MAX: u64 = 0x034;
    pub(crate) const QUEUE_NUM: u64 = 0x038;
    pub(crate) const QUEUE_READY: u64 = 0x044;
    pub(crate) const QUEUE_NOTIFY: u64 = 0x050;
    pub(crate) const INTERRUPT_STATUS: u64 = 0x060;
    pub(crate) const INTERRUPT_ACK: u64 = 0x064;
    pub(crate) const STATUS: u64 = 0x070;
    pub(crate) const QUEUE_DESC_LOW: u64 = 0x080;
    pub(crate) const QUEUE_DESC_HIGH: u64 = 0x084;
    pub(crate) const QUEUE_DRIVER_LOW: u64 = 0x090;
    pub(crate) const QUEUE_DRIVER_HIGH: u64 = 0x094;
    pub(crate) const QUEUE_DEVICE_LOW: u64 = 0x0a0;
    pub(crate) const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
    pub(crate) const SHM_LEN_LOW: u64 = 0x0b0;
    pub(crate) const SHM_BASE_HIGH: u64 = 0x0bc;
    pub(crate) const CONFIG_GENERATION: u64 = 0x0fc;
    pub(crate) const CONFIG: u64 = 0x100;
}

/// Bits of `Status` (virtio 1.2, 2.1).
pub(super) mod status {
    pub(crate) const ACKNOWLEDGE: u32 = 1;
    pub(crate) const DRIVER: u32 = 2;
    pub(crate) const DRIVER_OK: u32 = 4;
    pub(crate) const FEATURES_OK: u32 = 8;
    pub(crate) const NEEDS_RESET: u32 = 64;
    pub(crate) const FAILED: u32 = 128;
}

/// The registers that hold something, as the driver has left them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    /// What this driver was offered.
    pub device_features: u64,
    pub driver_features: u64,
    pub device_features_sel: u32,
    pub driver_features_sel: u32,
    pub queue_sel: u32,
    /// Without NEEDS_RESET, which is the interrupt's.
    pub status: u32,
    pub queues: Vec<QueueRegisters>,
}

impl Registers {
    /// As they come out of a reset.
    pub(super) fn new(device_features: u64, queue_sizes: impl Iterator<Item = u16>) -> Self {
        Self {
            device_features,
            driver_features: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            queue_sel: 0,
            status: 0,
            queues: queue_sizes.map(QueueRegisters::new).collect(),
        }
    }

    /// The same device after a reset.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.device_features, self.queues.iter().map(|queue| queue.max_size));
    }

    pub(super) fn has(&self, status: u32) -> bool {
        self.status & status == status
    }

    /// The queue that `QueueSel` names, and its number.
    pub(super) fn selected(&self) -> Option<(usize, &QueueRegisters)> {
        let number = usize::try_from(self.queue_sel).ok()?;
        Some((number, self.queues.get(number)?))
    }

    /// The selected queue, if the driver may set it up now: features are settled, and the queue is not ready
    /// (4.2.3.2: the driver stops a queue before it changes it).
    pub(super) fn in_setup(&mut self) -> Option<&mut QueueRegisters> {
        if !self.has(status::FEATURES_OK) || self.has(status::FAILED) {
            return None;
        }
        let number = usize::try_from(self.queue_sel).ok()?;
        self.queues.get_mut(number).filter(|queue| !queue.ready)
    }

    /// The half of the offered features that `DeviceFeaturesSel` names.
    pub(super) fn offered(&self) -> u32 {
        match self.device_features_sel {
            0 => self.device_features as u32,
            1 => (self.device_features >> 32) as u32,
            _ => 0,
        }
    }

    /// The driver accepts features, which it may do until it says FEATURES_OK.
    pub(super) fn accept(&mut self, half: u32) {
        if !self.has(status::DRIVER) || self.status & (status::FEATURES_OK | status::FAILED) != 0 {
            return;
        }
        match self.driver_features_sel {
            0 => set_low(&mut self.driver_features, half),
            1 => set_high(&mut self.driver_features, half),
            _ => {}
        }
    }
}

pub(super) fn set_low(word: &mut u64, half: u32) {
    *word = *word & !u64::from(u32::MAX) | u64::from(half);
}

pub(super) fn set_high(word: &mut u64, half: u32) {
    *word = *word & u64::from(u32::MAX) | u64::from(half) << 32;
}
