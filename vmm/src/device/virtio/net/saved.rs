//! An interface to and from its section.

use snapshot_format::state::VirtioNetState;

use super::features::{MTU, feature};
use super::news::News;
use super::{Error, Net, Tap};
use crate::config::{MacAddr, NetId, TapName};
use crate::device::virtio::rate::RateLimit;
use crate::device::virtio::transport::{self, Mmio};
use crate::lifecycle::{Persist, Quiesced};

/// The name of an interface's section.
pub fn section(id: &NetId) -> String {
    format!("{KIND}:{}", id.as_str())
}

/// The part before the colon.
pub(crate) const KIND: &str = "virtio-net";

/// A restored interface's connections.
#[derive(Debug)]
pub struct Wiring {
    /// The transport's.
    pub transport: transport::Wiring,
    /// What the interface is called: the instance in its section's name.
    pub id: NetId,
    /// What lies behind it: from [`Tap::reopen`].
    pub tap: Tap,
}

impl Persist for Mmio<Net> {
    type State = VirtioNetState;
    type Wiring = Wiring;
    type Error = transport::Error;

    fn save(&self, at_rest: &Quiesced<'_>) -> VirtioNetState {
        let transport = self.save_transport(at_rest);
        let net = self.device().expect("a machine at rest has quiesced its devices");
        let Net { id: _, has_mac: _, tap, watch: _, is_lost: _, rx, tx, config: _, features: _, news: _ } =
            net;
        VirtioNetState {
            transport,
            tap: tap.name().as_str().to_owned(),
            rx_limit: rx.limit.save(),
            tx_limit: tx.limit.save(),
        }
    }

    fn restore(state: VirtioNetState, wiring: Wiring) -> Result<Self, transport::Error> {
        // Its name was compared when the TAP was opened.
        let VirtioNetState { transport, tap: _, rx_limit, tx_limit } = state;
        let Wiring { transport: wiring, id, tap } = wiring;
        let limits = [RateLimit::restore(&rx_limit)?, RateLimit::restore(&tx_limit)?];
        let has_mac = transport.device_features & feature::MAC != 0;
        // The transport puts the saved configuration in the place of this one.
        let config = super::features::config(None, tap.mtu());
        let net = Net::assemble(id, has_mac, tap, config, limits, News::Restored)
            .map_err(transport::Error::EventFd)?;
        Self::restore_transport(&transport, net, wiring)
    }
}

/// What an image says of how an interface is addressed. Nothing of it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// None if the guest made one up.
    pub mac: Option<MacAddr>,
    /// In bytes; none in a configuration that is too short.
    pub mtu: Option<u16>,
}

impl Address {
    /// Of a saved interface.
    #[must_use]
    pub fn of(saved: &VirtioNetState) -> Self {
        let config = &saved.transport.config;
        let mac =
            config.first_chunk().copied().filter(|_| saved.transport.device_features & feature::MAC != 0);
        let mtu = config.get(MTU).and_then(|bytes| bytes.try_into().ok());
        Self { mac: mac.map(MacAddr::from), mtu: mtu.map(u16::from_le_bytes) }
    }
}

impl Tap {
    /// The TAP of an image: the one of the same name, or `instead`.
    ///
    /// # Errors
    /// As [`Tap::open`]; or the image's name is none, or the guest was told of longer packets than the TAP carries.
    pub fn reopen(saved: &VirtioNetState, instead: Option<&TapName>) -> Result<Self, Error> {
        let VirtioNetState { transport: _, tap, rx_limit: _, tx_limit: _ } = saved;
        let recorded: TapName = tap.parse().map_err(|_| Error::Record { tap: tap.clone() })?;
        Self::open(instead.unwrap_or(&recorded))?.carries_packets_of(saved)
    }

    /// This TAP, if its MTU is that of a saved interface, or larger. A driver reads it once, when it starts (virtio 1.2,
    /// 5.1.5), so a restored guest cannot be told of a smaller one.
    pub(super) fn carries_packets_of(self, saved: &VirtioNetState) -> Result<Self, Error> {
        let guest = Address::of(saved).mtu.filter(|_| saved.transport.device_features & feature::MTU != 0);
        match guest {
            Some(guest) if self.mtu() < guest => {
                Err(Error::Mtu { tap: self.name().as_str().to_owned(), mtu: self.mtu(), guest })
            }
            _ => Ok(self),
        }
    }
}
