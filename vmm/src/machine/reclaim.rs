//! Having a guest's free memory back before it is written to an image.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::device::virtio::balloon::{Reclaim, Valve};

/// How often to look how far the guest is.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaimed {
    /// The guest has given back what it could spare.
    Whole,
    /// The time was up before. What was given back is the host's; what the balloon still holds is the guest's again
    /// when it gets to it.
    InPart,
    /// The guest has no driver, or one that does not say how much is free.
    NoDriver,
}

/// Asks the guest at `valve`, which runs, for its free memory, and waits until it has given it, for `limit` at most.
/// `give_up` ends the wait sooner.
pub fn reclaim(valve: &Arc<Valve>, limit: Duration, give_up: &mut dyn FnMut() -> bool) -> Reclaimed {
    let start = Instant::now();
    let Some(mut reclaim) = Reclaim::begin(valve) else { return Reclaimed::NoDriver };
    while !reclaim.step(Instant::now()) {
        if start.elapsed() > limit || give_up() {
            return Reclaimed::InPart;
        }
        thread::sleep(LOOK_AGAIN);
    }
    Reclaimed::Whole
}
