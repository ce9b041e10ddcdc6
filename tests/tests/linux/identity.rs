//! Clones learn that they are clones, on kernels that have a driver for VMGenID: Debian's generic one of 6.1, and its
//! cloud one of 6.12.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use rekindle_tests::{Image, Scratch, note, verbs};

use crate::checks;
use crate::guest::Guest;
use crate::shelf::{CLOUD_6_1, Kernel};

/// Longer than the pause by which the guest knows that it was restored.
const ON_THE_SHELF: Duration = Duration::from_millis(2500);

/// What one CPU drew, by count.
type Drawn = BTreeMap<u32, Number>;

#[derive(Clone, Debug)]
struct Number {
    us: u64,
    number: String,
}

/// Two clones of one image, and the original that goes on: whoever asks for a number after the restore gets one that
/// nobody else gets. The kernel has heard of it once in each clone, and never in the original.
///
/// A guest that draws without pause across the snapshot is another matter: between the interrupt and the kernel's worker
/// it may draw the same numbers as its twin. How many is measured, and must come to an end.
pub(crate) fn clones_draw_other_numbers(kernel: Kernel) {
    let here = Scratch::new();
    let mut original = Guest::boot(kernel, 2, "");
    original.ask("clear");
    original.send("numbers");
    assert_eq!(original.next("numbers"), "run");
    let image = verbs::snapshot_and_resume(&original.vm, here.path("image"));
    let mut seen = vec![original.ask("draw")];
    assert_eq!(original.ask("forks"), "0", "the original is who it was");
    original.vm.stop();
    thread::sleep(ON_THE_SHELF);

    let mut drawn = Vec::new();
    for _ in 0..2 {
        let mut clone = Guest::restore(&image);
        seen.push(clone.ask("draw"));
        while clone.ask("forks") != "1" {}
        checks::kernel_is_content(&mut clone);
        drawn.push([numbers(&mut clone, 0), numbers(&mut clone, 1)]);
        clone.vm.stop();
    }
    for (at, one) in seen.iter().enumerate() {
        for other in &seen[..at] {
            let same = one.split(' ').zip(other.split(' ')).any(|(one, other)| one == other);
            assert!(!same, "two machines have drawn the same: {seen:#?}");
        }
    }
    for (cpu, (one, other)) in drawn[0].iter().zip(&drawn[1]).enumerate() {
        // Number 0 may have been drawn before the snapshot, just before the clock was read.
        let after = one.iter().filter(|(at, _)| **at > 0);
        let twins: Vec<_> = after.filter(|(at, number)| other[at].number == number.number).collect();
        let (last, _) = one.last_key_value().expect("numbers were drawn");
        assert_ne!(one[last].number, other[last].number, "the clones still draw the same: {one:?}");
        note(match twins.last() {
            Some((at, number)) => format!(
                "{}: on CPU {cpu} two clones that drew without pause had number {at} in common, {} us after the first",
                kernel.identifier(),
                number.us
            ),
            None => format!("{}: on CPU {cpu} two clones had no number in common", kernel.identifier()),
        });
    }
}

/// Debian's cloud kernel of 6.1 has no driver for VMGenID, and never hears of it. What the README says to do there works:
/// numbers that the host has drawn since the restore, and a reseeding.
pub(crate) fn reseeded_by_hand() {
    let here = Scratch::new();
    let image = with_entropy(CLOUD_6_1, &here);
    let drawn = [(); 2].map(|()| {
        let mut clone = Guest::restore(&image);
        let before = clone.ask("draw");
        let fed = clone.ask("reseed");
        assert!(fed.starts_with("0 fed="), "{fed}");
        let after = clone.ask("draw");
        assert_eq!(clone.ask("forks"), "0");
        clone.vm.stop();
        (before, fed, after)
    });
    let [one, other] = &drawn;
    assert_ne!(one.1, other.1, "what was fed to the pools of two clones is no secret between them");
    assert_ne!(one.2, other.2);
    let twins = if one.0 == other.0 { "the same" } else { "different" };
    note(format!("two clones of a kernel without a driver drew {twins} numbers before they were reseeded"));
}

/// What two clones read first from the entropy device was drawn before the snapshot, and is the same: the driver asks
/// for 64 bytes ahead (`request_entropy`), and the core keeps what is left of 64 (`rng_buffer`). So nothing behind the
/// 256th byte may be, which is what the README says to discard.
pub(crate) fn clones_share_what_was_read_ahead(kernel: Kernel) {
    let here = Scratch::new();
    let image = with_entropy(kernel, &here);
    let read = [(); 2].map(|()| {
        let mut clone = Guest::restore(&image);
        let read = clone.ask("hwrng");
        clone.vm.stop();
        read
    });
    let [one, other] = read.each_ref().map(|read| read.split_ascii_whitespace().collect::<Vec<_>>());
    assert_eq!([one.len(), other.len()], [64; 2], "{read:?}");
    let shared = (0..64).rev().find(|at| other.contains(&one[*at])).map_or(0, |last| (last + 1) * 8);
    assert!(
        shared <= READ_AHEAD,
        "{shared} bytes of the entropy device are the same in two clones: {read:#?}"
    );
    note(format!(
        "{}: clones had the first {shared} bytes of the entropy device in common",
        kernel.identifier()
    ));
}

/// The bytes that the README says to discard: twice what a driver and the core hold at cache lines of 64 bytes.
const READ_AHEAD: usize = 256;

/// The image of a guest whose driver of the entropy device is at work.
fn with_entropy(kernel: Kernel, here: &Scratch) -> Image {
    let mut guest = Guest { vm: Guest::launch("boot", kernel, 1, "").args(["--rng"]).vm() };
    guest.next("guest");
    guest.ask("module");
    // The core's buffer is half full then.
    guest.ask("hwrng");
    let image = verbs::snapshot(&guest.vm, here.path("image"));
    guest.vm.kill();
    image
}

/// What the guest says of one CPU's numbers, which came after the restore.
#[track_caller]
fn numbers(guest: &mut Guest, cpu: u32) -> Drawn {
    let start = format!("drawn cpu{cpu} ");
    let of_cpu = |console: &str| -> Drawn {
        let lines = console.lines().filter_map(|line| line.trim_end().strip_prefix(&start));
        lines
            .filter_map(|line| {
                let mut words = line.split(' ');
                let at = words.next()?.parse().ok()?;
                let us = words.next()?.strip_prefix("us=")?.parse().ok()?;
                let number = words.next().filter(|number| number.len() == 16)?.to_owned();
                Some((at, Number { us, number }))
            })
            .collect()
    };
    loop {
        let drawn = of_cpu(&guest.console());
        if drawn.contains_key(&(1 << 14)) {
            return drawn;
        }
        guest.ask("clock");
    }
}
