//! The clock to and from its section.

use std::sync::Arc;

use snapshot_format::codec::prelude::Blob;
use snapshot_format::state::RtcState;

use super::{CMOS, Error, OFFSET_MAX, REGISTER_A, REGISTER_C, REGISTER_D, Rtc, TIME, UIP};
use crate::clock::WallClock;
use crate::lifecycle::{Persist, Quiesced};

/// The section's name.
pub const SECTION: &str = "rtc";

impl Persist for Rtc {
    type State = RtcState;
    /// The clock that it follows.
    type Wiring = Arc<dyn WallClock>;
    type Error = Error;

    fn save(&self, _at_rest: &Quiesced<'_>) -> RtcState {
        let Self { clock: _, index, cmos, offset_seconds } = self;
        RtcState { index: *index, cmos: Blob(cmos.to_vec()), offset_seconds: *offset_seconds }
    }

    fn restore(state: RtcState, clock: Arc<dyn WallClock>) -> Result<Self, Error> {
        let RtcState { index, cmos: Blob(cmos), offset_seconds } = state;
        let cmos: [u8; CMOS] =
            cmos.try_into().map_err(|wrong: Vec<u8>| Error::CmosLength { len: wrong.len() })?;
        if usize::from(index) >= CMOS {
            return Err(Error::Index { index });
        }
        if offset_seconds.unsigned_abs() > OFFSET_MAX.unsigned_abs() {
            return Err(Error::Offset { seconds: offset_seconds });
        }
        let restored = Self { clock, index, cmos, offset_seconds };
        // Unless the guest holds them, the time registers are not where the time is.
        let time_mask = if restored.is_held() { 0 } else { 0xff };
        let zero = [(REGISTER_A, UIP), (REGISTER_C, 0xff), (REGISTER_D, 0xff)];
        for (register, mask) in zero.into_iter().chain(TIME.map(|time| (time, time_mask))) {
            let value = cmos[usize::from(register)];
            if value & mask != 0 {
                return Err(Error::ImpossibleRegister { register, value });
            }
        }
        Ok(restored)
    }
}
