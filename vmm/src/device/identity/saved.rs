//! The identity's places to and from their section. The identity itself goes neither way.

use snapshot_format::state::IdentityState;

use super::{Error, Identity};
use crate::lifecycle::{Persist, Quiesced};
use crate::memory::{GuestRam, layout};

/// The section's name.
pub const SECTION: &str = "identity";

/// Pins of KVM's IOAPIC.
const PINS: u32 = 24;

impl Persist for Identity {
    type State = IdentityState;
    type Wiring = GuestRam;
    type Error = Error;

    fn save(&self, _at_rest: &Quiesced<'_>) -> IdentityState {
        let Self { generation_id, vmclock, gsi, memory: _ } = self;
        IdentityState { generation_id: *generation_id, vmclock: *vmclock, gsi: *gsi }
    }

    /// The guest that comes back is another one: its pages are written here.
    fn restore(state: IdentityState, memory: GuestRam) -> Result<Self, Error> {
        let IdentityState { generation_id, vmclock, gsi } = state;
        let places = [("generation ID", generation_id), ("VMClock", vmclock)];
        let reserved = layout::ACPI_START..layout::KERNEL_START;
        let is_place = |gpa: u64| gpa.is_multiple_of(layout::PAGE_SIZE) && reserved.contains(&gpa);
        if let Some((what, gpa)) = places.into_iter().find(|(_, gpa)| !is_place(*gpa)) {
            return Err(Error::Place { what, gpa });
        }
        if generation_id == vmclock {
            return Err(Error::Place { what: "VMClock", gpa: vmclock });
        }
        if gsi >= PINS {
            return Err(Error::Gsi { gsi });
        }
        let identity = Self { generation_id, vmclock, gsi, memory };
        identity.renew()?;
        Ok(identity)
    }
}
