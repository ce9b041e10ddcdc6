//! Having a guest's free memory back before it is written to an image.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::device::virtio::balloon::{Reclaim, Valve};

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

/// A guest that gives its free memory back. Dropped, it is left in peace.
#[derive(Debug)]
pub struct Reclaiming {
    reclaim: Reclaim,
    end: Instant,
}

impl Reclaiming {
    /// How often to look how far the guest is.
    pub const LOOK_AGAIN: Duration = Duration::from_millis(5);

    /// Asks the guest at `valve`, which runs, for its free memory; it has `limit` to give it. `None` if it does not say
    /// how much is free.
    #[must_use]
    pub fn begin(valve: &Arc<Valve>, limit: Duration) -> Option<Self> {
        Some(Self { reclaim: Reclaim::begin(valve)?, end: Instant::now() + limit })
    }

    /// How far it came, once it is over.
    pub fn look(&mut self) -> Option<Reclaimed> {
        let now = Instant::now();
        if self.reclaim.step(now) {
            return Some(Reclaimed::Whole);
        }
        (now > self.end).then_some(Reclaimed::InPart)
    }

    /// See [`Reclaim::goes_back_to`].
    #[must_use]
    pub fn goes_back_to(&self) -> u32 {
        self.reclaim.goes_back_to()
    }

    /// See [`Reclaim::go_back_to`].
    pub fn go_back_to(&mut self, pages: u32) {
        self.reclaim.go_back_to(pages);
    }
}

/// Asks the guest at `valve`, which runs, for its free memory, and waits until it has given it, for `limit` at most.
/// `give_up` ends the wait sooner.
pub fn reclaim(valve: &Arc<Valve>, limit: Duration, give_up: &mut dyn FnMut() -> bool) -> Reclaimed {
    let Some(mut reclaiming) = Reclaiming::begin(valve, limit) else { return Reclaimed::NoDriver };
    loop {
        if let Some(how_far) = reclaiming.look() {
            return how_far;
        }
        if give_up() {
            return Reclaimed::InPart;
        }
        thread::sleep(Reclaiming::LOOK_AGAIN);
    }
}
