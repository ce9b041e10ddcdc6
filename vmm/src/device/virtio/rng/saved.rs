//! The entropy device to and from its section.

use snapshot_format::state::VirtioRngState;

use super::Rng;
use crate::device::virtio::transport::{Error, Mmio, Wiring};
use crate::lifecycle::{Persist, Quiesced};

/// The section's name.
pub const SECTION: &str = "virtio-rng";

impl Persist for Mmio<Rng> {
    type State = VirtioRngState;
    type Wiring = Wiring;
    type Error = Error;

    fn save(&self, at_rest: &Quiesced<'_>) -> VirtioRngState {
        VirtioRngState { transport: self.save_transport(at_rest) }
    }

    fn restore(state: VirtioRngState, wiring: Wiring) -> Result<Self, Error> {
        let VirtioRngState { transport } = state;
        Self::restore_transport(&transport, Rng::default(), wiring)
    }
}
