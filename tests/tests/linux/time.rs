//! Time that passes while nobody is there to see it.

use std::fs;
use std::time::Duration;

use rekindle_tests::{Image, Scratch};
use snapshot_format::StateReader;
use snapshot_format::state::ClockState;
use snapshot_format::testing::reseal;

use crate::checks;
use crate::guest::Guest;
use crate::shelf::{self, CLOUD_6_1, Kernel};

const HALF_AN_HOUR: Duration = Duration::from_secs(1800);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// An image that has lain for half an hour, and one that has lain for a month: timers fire, the kernel finds nothing to
/// complain of, and the clocks are right at once. Half an hour is more than the 18 minutes that a kernel before 6.10 can
/// turn into nanoseconds in one step, and a month is more than a scheduler survives that takes it for a task's turn.
///
/// The images are young ones that say that they are old. So their guests' wall clocks, which were right when the
/// snapshot was really taken, are ahead by as much as they claim.
pub(crate) fn wakes_after_a_month(kernel: Kernel) {
    let here = Scratch::new();
    let left = shelf::counting(kernel, 2);
    for (name, age) in [("half-an-hour", HALF_AN_HOUR), ("month", MONTH)] {
        let aged = aged(&left.image, &here, name, age);
        let mut guest = Guest::restore(&aged);
        let clocks = checks::wall_clock_is_ahead(&mut guest, age);
        assert!(clocks.mono > age && clocks.boot > age, "{clocks:?}");
        checks::timers_fire(&mut guest);
        checks::every_cpu_runs(&mut guest);
        checks::wall_clock_is_ahead(&mut guest, age);
        checks::kernel_is_content(&mut guest);
        guest.next("count");
        guest.vm.stop();
    }
}

/// A guest that keeps time by the TSC itself: whatever CPU reads it, it never goes back.
pub(crate) fn tscs_stay_in_step() {
    let here = Scratch::new();
    let mut guest = Guest::boot(CLOUD_6_1, 2, "clocksource=tsc tsc=reliable");
    assert_eq!(guest.ask("source"), "tsc");
    guest.ask("clear");
    guest.send("watch");
    checks::every_cpu_runs(&mut guest);
    let left = guest.leave(&here.path("image"), "");
    let aged = aged(&left.image, &here, "aged", MONTH);
    for (image, ahead) in [(&left.image, Duration::ZERO), (&aged, MONTH)] {
        let mut guest = Guest::restore(image);
        checks::timers_fire(&mut guest);
        checks::every_cpu_runs(&mut guest);
        checks::wall_clock_is_ahead(&mut guest, ahead);
        checks::kernel_is_content(&mut guest);
        assert_eq!(guest.ask("source"), "tsc");
        guest.vm.stop();
    }
}

/// A guest with more to do than it has CPUs: the tasks that were on them when it was snapshotted have their turns like
/// the others after a month, instead of waiting until the others have had a month as well.
pub(crate) fn nobody_pays_for_the_time_away(kernel: Kernel) {
    let here = Scratch::new();
    let mut guest = Guest::boot(kernel, 2, "");
    guest.ask("hogs 5");
    guest.ask("clear");
    guest.ask("nap 300");
    let left = guest.leave(&here.path("image"), "");
    let mut guest = Guest::restore(&aged(&left.image, &here, "aged", MONTH));
    let stolen: u64 = guest.ask("stolen").parse().expect("ticks are a number");
    assert!(stolen / TICKS_A_SECOND >= 2 * MONTH.as_secs(), "{stolen} ticks of two CPUs' month were stolen");
    let turns = |guest: &mut Guest| -> Vec<u64> {
        let turns = guest.ask("turns");
        turns.split(' ').map(|ticks| ticks.parse().expect("ticks are a number")).collect()
    };
    let before = turns(&mut guest);
    assert_eq!(before.len(), 5);
    let mut after = turns(&mut guest);
    for _ in 0..20 {
        guest.ask("nap 500");
        after = turns(&mut guest);
        if before.iter().zip(&after).all(|(before, after)| before < after) {
            break;
        }
    }
    assert!(before.iter().zip(&after).all(|(before, after)| before < after), "{before:?}, later {after:?}");
    checks::kernel_is_content(&mut guest);
    guest.vm.stop();
}

/// The unit of times in `/proc` (`USER_HZ`).
const TICKS_A_SECOND: u64 = 100;

/// The same image, taken so much earlier. It shares the memory file.
fn aged(image: &Image, here: &Scratch, name: &str, age: Duration) -> Image {
    let mut state = fs::read(image.state()).expect("an image has a state");
    let clock: ClockState = StateReader::parse(&state)
        .and_then(|mut state| state.take("clock"))
        .expect("the image is one that this build wrote");
    let age = u64::try_from(age.as_nanos()).expect("a month is short");
    for instant in [clock.realtime_ns, clock.vmm_realtime_ns].into_iter().filter(|&instant| instant != 0) {
        let places = state.windows(8).filter(|bytes| *bytes == instant.to_le_bytes()).count();
        assert_eq!(places, 1, "an instant in ns is as good as unique");
        let at = state.windows(8).position(|bytes| bytes == instant.to_le_bytes()).expect("just counted");
        state[at..at + 8].copy_from_slice(&(instant - age).to_le_bytes());
    }
    reseal::checksum_of(&mut state);
    let aged = Image::at(here.path(name));
    fs::create_dir(aged.path()).expect("a scratch directory can be made");
    fs::hard_link(image.memory(), aged.memory()).expect("both lie in the same temporary file system");
    fs::write(aged.state(), state).expect("a scratch file can be written");
    aged
}
