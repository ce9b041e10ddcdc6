//! The power-management block to and from its section.

use snapshot_format::state::AcpiPmState;

use super::{AcpiPm, CONTROL_BITS, ENABLE_BITS, Error, SCI_EN, STATUS_BITS};
use crate::lifecycle::{Persist, Quiesced};

/// The section's name.
pub const SECTION: &str = "acpi-pm";

impl Persist for AcpiPm {
    type State = AcpiPmState;
    type Wiring = ();
    type Error = Error;

    fn save(&self, _at_rest: &Quiesced<'_>) -> AcpiPmState {
        let Self { status, enable, control } = self;
        AcpiPmState { pm1_status: *status, pm1_enable: *enable, pm1_control: *control }
    }

    fn restore(state: AcpiPmState, (): ()) -> Result<Self, Error> {
        let AcpiPmState { pm1_status: status, pm1_enable: enable, pm1_control: control } = state;
        let possible =
            status & !STATUS_BITS == 0 && enable & !ENABLE_BITS == 0 && control & !CONTROL_BITS == SCI_EN;
        if !possible {
            return Err(Error::ImpossibleRegisters { status, enable, control });
        }
        Ok(Self { status, enable, control })
    }
}
