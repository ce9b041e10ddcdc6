//! The pvpanic port to and from its section.

use snapshot_format::state::PvpanicState;

use super::{Error, OFFERED, Pvpanic};
use crate::lifecycle::{Persist, Quiesced};

/// The section's name.
pub const SECTION: &str = "pvpanic";

impl Persist for Pvpanic {
    type State = PvpanicState;
    type Wiring = ();
    type Error = Error;

    fn save(&self, _at_rest: &Quiesced<'_>) -> PvpanicState {
        let Self { crash_logged: _, events } = self;
        PvpanicState { events: *events }
    }

    fn restore(state: PvpanicState, (): ()) -> Result<Self, Error> {
        let PvpanicState { events } = state;
        if events & !OFFERED != 0 {
            return Err(Error::UnknownEvents { events });
        }
        Ok(Self { crash_logged: false, events })
    }
}
