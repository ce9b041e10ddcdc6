//! The readiness port to and from its section.

use std::convert::Infallible;

use snapshot_format::state::ReadyPortState;

use super::ReadyPort;
use crate::lifecycle::{Persist, Quiesced};

/// The section's name.
pub const SECTION: &str = "ready-port";

impl Persist for ReadyPort {
    type State = ReadyPortState;
    /// Whether the next write stops the guest. Whoever restores decides that anew, so it is not saved.
    type Wiring = bool;
    /// Every byte is a possible last byte.
    type Error = Infallible;

    fn save(&self, _at_rest: &Quiesced<'_>) -> ReadyPortState {
        let Self { armed: _, last } = self;
        ReadyPortState { last: *last }
    }

    fn restore(state: ReadyPortState, armed: bool) -> Result<Self, Infallible> {
        let ReadyPortState { last } = state;
        Ok(Self { armed, last })
    }
}
