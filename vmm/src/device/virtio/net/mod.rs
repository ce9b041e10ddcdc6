//! Network interfaces (virtio 1.2, 5.1) on TAP interfaces of the host: frames go straight from one's memory to the
//! other's, with checksums and segmentation left to whoever can do them.
//!
//! A device at rest has every frame that it took from the TAP in the guest's ring, and none of the guest's on its way.
//! What lies in the TAP's own queue meanwhile waits there, or is lost as on any wire.

mod control;
mod features;
mod news;
mod receive;
mod saved;
mod tap;
mod transmit;
mod watch;

#[cfg(test)]
mod net_test;
#[cfg(test)]
mod restore_test;
#[cfg(test)]
mod tap_test;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

pub(super) use saved::KIND;
pub use saved::{Address, Wiring, section};
pub use tap::{Error, Tap};

use super::rate::RateLimit;
use super::{Broken, ConfigSpace, Queues, VirtioDevice};
use crate::config::{MacAddr, NetId, RateLimitConfig};
use features::{feature, link};
use news::News;
use receive::Receiver;
use transmit::Transmitter;
use watch::Watch;

/// The device ID.
const ID: u32 = 1;
/// To the guest, from the guest, control (5.1.2).
const QUEUES: [u16; 3] = [256, 256, 64];
const RX: usize = 0;
const TX: usize = 1;
const CONTROL: usize = 2;

/// `struct virtio_net_hdr`, in front of every frame (5.1.6): flags, gso_type, hdr_len, gso_size, csum_start,
/// csum_offset, num_buffers.
const HEADER: u32 = 12;

/// What an interface is to be.
#[derive(Debug)]
pub struct Parts {
    /// What it is called.
    pub id: NetId,
    /// What lies behind it.
    pub tap: Tap,
    /// Its address; without one the guest makes one up.
    pub mac: Option<MacAddr>,
    /// What the guest may receive.
    pub rx_limit: RateLimitConfig,
    /// What the guest may send.
    pub tx_limit: RateLimitConfig,
}

/// A network interface.
#[derive(Debug)]
pub struct Net {
    // Configuration.
    id: NetId,
    has_mac: bool,
    // Connections.
    tap: Tap,
    watch: Watch,
    /// Whether the TAP is gone, for good.
    is_lost: bool,
    // Guest-visible state, with what is in flight: see `drain`.
    rx: Receiver,
    tx: Transmitter,
    config: Arc<ConfigSpace>,
    /// What the driver has accepted.
    features: u64,
    /// What a restored guest is still to be told. Not saved: whoever restores the guest again tells it again.
    news: News,
}

impl Net {
    /// An interface as it comes out of reset.
    ///
    /// # Errors
    /// The process may open no more descriptors.
    pub fn new(parts: Parts) -> io::Result<Self> {
        let Parts { id, tap, mac, rx_limit, tx_limit } = parts;
        let config = features::config(mac, tap.mtu());
        let limits = [RateLimit::new(&rx_limit)?, RateLimit::new(&tx_limit)?];
        Self::assemble(id, mac.is_some(), tap, config, limits, News::None)
    }

    fn assemble(
        id: NetId,
        has_mac: bool,
        tap: Tap,
        config: Vec<u8>,
        [rx_limit, tx_limit]: [RateLimit; 2],
        news: News,
    ) -> io::Result<Self> {
        Ok(Self {
            watch: Watch::new(&tap, [&rx_limit, &tx_limit])?,
            id,
            has_mac,
            tap,
            is_lost: false,
            rx: Receiver::new(rx_limit),
            tx: Transmitter::new(tx_limit),
            config: Arc::new(ConfigSpace::new(config, 0..0)),
            features: 0,
            news,
        })
    }

    /// What it is called.
    #[must_use]
    pub fn id(&self) -> &NetId {
        &self.id
    }

    fn has(&self, features: u64) -> bool {
        self.features & features == features
    }

    /// Waits for what there is to wait for.
    fn settle(&mut self) {
        self.watch.want(&self.tap, self.rx.awaits_tap && !self.is_lost, self.tx.awaits_tap && !self.is_lost);
    }

    /// The TAP was taken away. The guest's cable is unplugged, and all that it sends is lost.
    fn lose(&mut self, queues: &Queues, error: &io::Error) {
        if !std::mem::replace(&mut self.is_lost, true) {
            tracing::warn!(%error, net = self.id.as_str(), tap = self.tap.name().as_str(), "the TAP is gone");
            self.set_status(0);
            queues.interrupt().config_changed();
        }
    }

    fn set_status(&self, status: u16) {
        self.config.change(|bytes| bytes[features::STATUS].copy_from_slice(&status.to_le_bytes()));
    }

    fn status(&self) -> u16 {
        let bytes = self.config.bytes();
        u16::from_le_bytes([bytes[features::STATUS.start], bytes[features::STATUS.start + 1]])
    }
}

impl VirtioDevice for Net {
    fn id(&self) -> u32 {
        ID
    }

    fn label(&self) -> String {
        format!("network interface `{}`", self.id.as_str())
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &QUEUES
    }

    fn features(&self) -> u64 {
        feature::OF_ALL | if self.has_mac { feature::MAC } else { 0 }
    }

    fn config(&self) -> Arc<ConfigSpace> {
        Arc::clone(&self.config)
    }

    fn activate(&mut self, driver_features: u64) {
        self.features = driver_features;
        self.rx.begin(driver_features, self.tap.mtu());
        self.tap.set_offload(driver_features);
    }

    fn reset(&mut self) {
        self.features = 0;
        self.news = News::None;
        self.config.unwatch();
        self.rx.forget();
        self.tx.forget();
        self.tap.set_offload(0);
        let status = if self.is_lost { 0 } else { link::UP };
        if self.status() != status {
            self.set_status(status);
        }
    }

    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.watch.as_fd()]
    }

    fn queue_ready(&mut self, queue: usize, queues: &mut Queues) -> Result<(), Broken> {
        self.tell(queues);
        let served = match queue {
            RX => self.receive(queues),
            TX => self.transmit(queues),
            CONTROL => self.control(queues),
            _ => Ok(()),
        };
        self.settle();
        served
    }

    fn source_ready(&mut self, _source: usize, queues: &mut Queues) -> Result<(), Broken> {
        self.watch.acknowledge();
        self.rx.acknowledge();
        self.tx.acknowledge();
        self.tell(queues);
        let received = self.receive(queues);
        let sent = if self.tx.waits() { self.transmit(queues) } else { Ok(()) };
        self.settle();
        received.and(sent)
    }

    fn drain(&mut self, queues: &mut Queues) -> Result<(), Broken> {
        self.rx.rest(queues);
        self.tx.rest();
        Ok(())
    }
}
