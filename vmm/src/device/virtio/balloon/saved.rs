//! The balloon to and from its section.

use std::sync::Arc;

use snapshot_format::state::VirtioBalloonState;

use super::{Balloon, Valve};
use crate::device::virtio::transport::{self, Error, Mmio};
use crate::lifecycle::{Persist, Quiesced};

/// The section's name.
pub const SECTION: &str = "virtio-balloon";

/// A restored balloon's connections.
#[derive(Debug)]
pub struct Wiring {
    /// The transport's.
    pub transport: transport::Wiring,
    /// A valve of its own, which learns the balloon's size from the section.
    pub valve: Arc<Valve>,
}

impl Persist for Mmio<Balloon> {
    type State = VirtioBalloonState;
    type Wiring = Wiring;
    type Error = Error;

    fn save(&self, at_rest: &Quiesced<'_>) -> VirtioBalloonState {
        let transport = self.save_transport(at_rest);
        let balloon = self.device().expect("a machine at rest has quiesced its devices");
        // The sizes are in the configuration space; statistics are asked for anew; no buffer is lent at rest.
        let Balloon { valve: _, failure_logged: _, features: _, lent: _ } = balloon;
        VirtioBalloonState { transport }
    }

    fn restore(state: VirtioBalloonState, wiring: Wiring) -> Result<Self, Error> {
        let VirtioBalloonState { transport } = state;
        let Wiring { transport: wiring, valve } = wiring;
        Self::restore_transport(&transport, Balloon::new(valve), wiring)
    }
}
