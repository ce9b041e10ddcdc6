//! Snapshots of a guest that computes.

use std::time::Duration;

use rekindle_tests::{Image, Scratch, verbs};

use crate::checks;
use crate::guest::Guest;
use crate::lines::whole_lines;
use crate::shelf::CLOUD_6_1;

const SNAPSHOTS: u64 = 20;
/// Which of them are restored.
const RESTORED: [u64; 3] = [3, 11, 20];

/// On both CPUs the guest sums page cache and rewrites memory of its own, while it is snapshotted at moments that have
/// nothing to do with it. It goes on and is right, and so are those that come from the images.
pub(crate) fn twenty_snapshots() {
    let here = Scratch::new();
    let mut guest = Guest::boot(CLOUD_6_1, 2, "");
    guest.ask("file 16");
    guest.ask("clear");
    guest.send("watch");
    guest.send("load");
    rounds(&mut guest, 1);
    let mut images = Vec::new();
    for n in 1..=SNAPSHOTS {
        // Moments without a pattern, and the same in every run.
        std::thread::sleep(Duration::from_micros(n * 7919 * 7919 % 300_000));
        let image = verbs::snapshot_and_resume(&guest.vm, here.path(format!("{n}")));
        if RESTORED.contains(&n) {
            images.push(image);
        } else {
            std::fs::remove_dir_all(image.path()).expect("an image that nobody uses can be removed");
        }
    }
    right(guest);
    images.iter().map(|image: &Image| Guest::restore(image)).for_each(right);
}

#[track_caller]
fn right(mut guest: Guest) {
    rounds(&mut guest, 2);
    is_unharmed(guest);
}

/// Demands that it runs as it should and has found nothing wrong so far, and ends it.
#[track_caller]
pub(crate) fn is_unharmed(mut guest: Guest) {
    checks::every_cpu_runs(&mut guest);
    checks::timers_fire(&mut guest);
    checks::kernel_is_content(&mut guest);
    let console = guest.console();
    let verdicts: Vec<&str> = whole_lines(&console).filter(|line| line.starts_with("load ")).collect();
    assert!(verdicts.iter().all(|line| line.ends_with(" right")), "{verdicts:#?}");
    guest.vm.stop();
}

/// Waits until each CPU has finished so many rounds.
#[track_caller]
pub(crate) fn rounds(guest: &mut Guest, rounds: usize) {
    let mut done = [0; 2];
    while done.iter().any(|done| *done < rounds) {
        let line = guest.next("load");
        done[usize::from(line.starts_with("cpu1 "))] += 1;
    }
}
