//! What must be true of a guest that has come back, however it came back.

use std::time::{Duration, SystemTime};

use crate::guest::Guest;
use crate::lines::{Clocks, Count, Watch, per_cpu, whole_lines};
use crate::shelf::Left;

/// How far from the host's the guest's wall clock may be. A kernel that boots takes whole seconds from its RTC, and so
/// is up to half a second off from its first day.
const WALL: Duration = Duration::from_secs(2);
/// How long a nap of a tenth of a second may take on a host that emulates its CPUs.
const NAP_MS: u64 = 100;
const NAP_LIMIT_US: u64 = 3_000_000;

/// Everything that a guest of [`crate::shelf::counting`] can tell.
#[track_caller]
pub(crate) fn is_as_it_was(guest: &mut Guest, left: &Left) {
    file_is_whole(guest, &left.sum);
    timers_fire(guest);
    every_cpu_runs(guest);
    wall_clock_is_right(guest);
    kernel_is_content(guest);
    counts_on(&(left.console.clone() + &guest.console()));
}

/// The count over one console, or over the joined consoles of one life after another: no gap, no repeat, and no clock
/// that goes back or jumps against the others.
#[track_caller]
pub(crate) fn counts_on(console: &str) {
    let counts = Count::all(console);
    assert!(counts.len() > 2, "too little was counted: {console}");
    for pair in counts.windows(2) {
        let (one, next) = (&pair[0], &pair[1]);
        assert_eq!(next.n, one.n + 1, "a gap or a repeat: {pair:?}");
        let (was, is) = (one.clocks, next.clocks);
        let forward = is.mono > was.mono && is.boot > was.boot && is.real > was.real && is.date >= was.date;
        assert!(forward, "a clock went back: {pair:?}");
        let apart = (is.real - was.real).abs_diff(is.mono - was.mono);
        assert!(apart < Duration::from_millis(500), "wall clock and monotonic clock disagree: {pair:?}");
    }
}

/// The next checksum is the one that the file always had.
#[track_caller]
pub(crate) fn file_is_whole(guest: &mut Guest, sum: &str) {
    loop {
        let count = Count::of(&guest.next("count"));
        if let Some(found) = count.sum {
            return assert_eq!(format!("sum={found}"), sum, "at {}", count.n);
        }
    }
}

/// A nap on each CPU ends, and not before its time.
#[track_caller]
pub(crate) fn timers_fire(guest: &mut Guest) {
    let answer = guest.ask(&format!("nap {NAP_MS}"));
    let naps = per_cpu(&answer);
    assert!(!naps.is_empty(), "{answer}");
    assert!(naps.iter().all(|us| (NAP_MS * 1000..NAP_LIMIT_US).contains(us)), "{answer}");
}

/// Every CPU gets work done, and between them their clocks never go back.
#[track_caller]
pub(crate) fn every_cpu_runs(guest: &mut Guest) {
    let earlier = Watch::of(&guest.next("watch"));
    // A line comes every half second. Computing all the time, a guest may let its watch wait for longer.
    for _ in 0..40 {
        let later = Watch::of(&guest.next("watch"));
        assert_eq!(later.back, 0, "the clock went back: {later:?}");
        if earlier.rounds.iter().zip(&later.rounds).all(|(earlier, later)| earlier < later) {
            return;
        }
    }
    panic!("a CPU stands still since {earlier:?}: {}", guest.vm.story());
}

/// The guest's wall clock is the host's.
#[track_caller]
pub(crate) fn wall_clock_is_right(guest: &mut Guest) -> Clocks {
    wall_clock_is_ahead(guest, Duration::ZERO)
}

/// The guest's wall clock is so much ahead of the host's, give or take what is allowed a wall clock.
#[track_caller]
pub(crate) fn wall_clock_is_ahead(guest: &mut Guest, ahead: Duration) -> Clocks {
    let since_1970 = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    let before = since_1970();
    let clocks = Clocks::of(&guest.ask("clock"));
    let after = since_1970();
    let right = before + ahead - WALL..after + ahead + WALL;
    assert!(right.contains(&clocks.real), "{clocks:?} is not within {right:?}");
    // `date` cuts off what is less than a second.
    assert!(clocks.date + Duration::from_secs(1) > clocks.real, "{clocks:?}");
    clocks
}

/// Linux looks twice a second whether its clocks agree, and remarks on it when more than a second lies between two looks,
/// as it does when a guest has stood still (`clocksource_watchdog`). That is no complaint as long as both clocks have
/// gone on by the same time, and both have: they are set forward together.
fn is_long_look_at_clocks_that_agree(line: &str) -> bool {
    let Some((_, clocks)) = line.split_once("Long readout interval, skipping watchdog check: cs_nsec: ")
    else {
        return false;
    };
    let Some((one, other)) = clocks.split_once(" wd_nsec: ") else { return false };
    let (Ok(one), Ok(other)) = (one.trim().parse::<u64>(), other.trim().parse::<u64>()) else { return false };
    // The kernel's own margin is 125 us for each clock (WATCHDOG_MAX_SKEW), which this lab is too slow to be held to.
    one.abs_diff(other) < 1_000_000
}

/// A handler that was interrupted by the snapshot has taken, to its guest, for as long as the image lay.
const INTERRUPTED: &str = "hrtimer: interrupt took";

/// The kernel has not complained since the snapshot's guest cleared its log, nor aloud on the console.
#[track_caller]
pub(crate) fn kernel_is_content(guest: &mut Guest) {
    complains_only_of(guest, &[INTERRUPTED]);
}

/// The same where more vCPUs run than there are CPUs: a guest that waits for one may say that its own time was short.
/// That says nothing of what it was restored from.
#[track_caller]
pub(crate) fn kernel_wants_only_cpu_time(guest: &mut Guest) {
    complains_only_of(guest, &[INTERRUPTED, "clocksource: Long readout interval, skipping"]);
}

#[track_caller]
fn complains_only_of(guest: &mut Guest, excused: &[&str]) {
    let mut complaints = Vec::new();
    guest.send("dmesg");
    loop {
        let line = guest.next("dmesg");
        if line == "end" {
            break;
        }
        if !is_long_look_at_clocks_that_agree(&line) {
            complaints.push(line);
        }
    }
    complaints.retain(|line| !excused.iter().any(|excused| line.contains(excused)));
    assert!(complaints.is_empty(), "the kernel complains: {complaints:#?}");
    let console = guest.console();
    // What a kernel says while it boots, such as that there is no PCI bus, is said before the guest's first word.
    let lines: Vec<&str> = whole_lines(&console).collect();
    let booted = lines.iter().position(|line| line.starts_with("guest ")).map_or(0, |hello| hello + 1);
    let aloud: Vec<&str> = lines[booted..].iter().copied().filter(|line| line.starts_with('[')).collect();
    assert!(aloud.is_empty(), "the kernel complains aloud: {aloud:#?}");
}
