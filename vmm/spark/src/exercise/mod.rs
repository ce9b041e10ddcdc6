//! Work for devices whose every answer can be checked: what must come back is known beforehand, in spark's memory.
//!
//! An exercise keeps several requests outstanding and never waits by itself; [`run`] takes turns and sleeps until an
//! interrupt comes when none has anything to do. So at any instant, that of a snapshot included, requests are under
//! way, and an answer that is wrong, or comes twice, or without an interrupt, or not at all, is found.

pub mod bench;
pub mod disk;
pub mod rng;
pub mod stream;

use crate::console::Console;
use crate::text::Text;
use crate::timer::Timer;
use crate::trap::{ANY_EVENT, TIMER_EVENT, host_tsc};
use crate::virtio::{self, Problem};

/// How long nothing may happen before it is looked into, in ms. The second time it is a failure: the first may be a
/// machine that stood still, and whose timer went on.
const PATIENCE: u64 = 5000;

/// Numbers that look random and can be had again.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(crate::pattern::splitmix64(seed))
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        // A limit of 0 gives 0 rather than an exception.
        crate::pattern::splitmix64(self.0).checked_rem(limit).unwrap_or(0)
    }
}

/// Does nothing for up to 200 us, every other time: so that there are moments at which requests are in the queue and the
/// device has not been told.
pub fn dawdle(dice: &mut Dice) {
    if dice.below(2) == 0 {
        let (since, ticks) = (host_tsc(), dice.below(TICKS));
        while host_tsc().wrapping_sub(since) < ticks {
            core::hint::spin_loop();
        }
    }
}

/// About 200 us.
const TICKS: u64 = 500_000;

/// Some work.
pub trait Exercise {
    /// Does what can be done without waiting: takes answers, and begins more unless `ending`. Whether there was
    /// anything.
    fn turn(&mut self, ending: bool) -> Result<bool, Problem>;

    /// Whether it is over, when it is `ending` or by itself.
    fn is_over(&self) -> bool;

    /// How far it has come.
    fn report(&self, to: &mut Text);
}

/// What [`run`] has come to.
pub enum End {
    /// All exercises are over.
    Over,
    /// An answer was wrong.
    Wrong(Problem),
    /// It could not be begun.
    Cannot(&'static str),
}

/// Has `exercises` take turns until all are over. A `q` from the console ends them in good order: no request is begun
/// any more, and every outstanding one is waited for. An `s` has them say how far they are.
pub fn run(console: Console, timer: &mut Timer, exercises: &mut [&mut dyn Exercise]) -> End {
    let mut ending = false;
    console.look_again();
    loop {
        ANY_EVENT.clear();
        match console.received() {
            Some(b's') => console.line(report(Text::new().str("at "), exercises)),
            Some(b'q') => ending = true,
            _ => {}
        }
        virtio::acknowledge();
        let mut busy = false;
        for exercise in exercises.iter_mut() {
            match exercise.turn(ending) {
                Ok(some) => busy |= some,
                Err(problem) => return End::Wrong(problem),
            }
        }
        if exercises.iter().all(|exercise| exercise.is_over()) {
            return End::Over;
        }
        if busy {
            continue;
        }
        match sleep(timer) {
            Ok(true) => {}
            Ok(false) => return End::Wrong(why_silent(exercises)),
            Err(why) => return End::Cannot(why),
        }
    }
}

/// What each says of itself.
pub fn report<'a>(text: &'a mut Text, exercises: &[&mut dyn Exercise]) -> &'a Text {
    for (exercise, n) in exercises.iter().zip(0..) {
        exercise.report(text.str(if n > 0 { ", " } else { "" }));
    }
    text
}

/// Sleeps until an interrupt has come that is not the timer's. `false` if none came for too long.
fn sleep(timer: &mut Timer) -> Result<bool, &'static str> {
    for _ in 0..2 {
        if ANY_EVENT.is_set() {
            return Ok(true);
        }
        timer.arm(PATIENCE)?;
        loop {
            ANY_EVENT.wait();
            if ANY_EVENT.is_set() && !TIMER_EVENT.is_set() {
                return Ok(true);
            }
            if TIMER_EVENT.is_set() {
                ANY_EVENT.clear();
                break;
            }
        }
    }
    Ok(false)
}

/// Whether there is an answer that nobody was told of.
fn why_silent(exercises: &mut [&mut dyn Exercise]) -> Problem {
    for exercise in exercises {
        match exercise.turn(true) {
            Ok(false) => {}
            Ok(true) => return "an answer without an interrupt",
            Err(problem) => return problem,
        }
    }
    "a request that is never answered"
}
