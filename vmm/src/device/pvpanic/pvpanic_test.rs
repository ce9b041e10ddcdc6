use snapshot_format::state::PvpanicState;

use super::*;
use crate::lifecycle::{Persist, Quiesced};

#[test]
fn a_panic_stops_the_machine_and_a_crash_kernel_goes_on() {
    let mut port = Pvpanic::default();
    let mut events = [0xff];
    port.read(0, &mut events);
    assert_eq!(events, [0b11]);
    assert_eq!(port.write(0, &[CRASH_LOADED]), Effect::Continue);
    assert_eq!(port.write(0, &[1 << 2]), Effect::Continue, "an event that was not offered");
    assert_eq!(port.write(0, &[PANICKED]), Effect::Stop(StopReason::Panic));
}

#[test]
fn the_offer_made_to_the_guest_outlives_a_restore() {
    let state = PvpanicState { events: CRASH_LOADED };
    let mut port = Pvpanic::restore(state, ()).unwrap();
    assert_eq!(port.save(&Quiesced::in_test()), state);
    assert_eq!(port.write(0, &[PANICKED]), Effect::Continue, "it was never offered to this guest");
    assert_eq!(
        Pvpanic::restore(PvpanicState { events: 1 << 2 }, ()).unwrap_err(),
        Error::UnknownEvents { events: 1 << 2 }
    );
}
