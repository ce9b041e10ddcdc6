use std::thread;

use snapshot_format::handoff::Mapping;

use super::*;
use crate::prefetch::Step;
use crate::source::mock::Mock;
use crate::source::{Policy, Retry};
use crate::stats::Metrics;
use crate::testing::{Memory as Guest, Pattern};

const PAGE: usize = 4096;

fn deliverer(guest: &Guest, source: impl PageSource + 'static, grain: Grain) -> Deliverer {
    let memory = Memory::new(guest.uffd().try_clone_to_owned().unwrap()).unwrap();
    let place = Place { memory, space: Space::new(&[guest.mapping(0)]), protect: false };
    Deliverer::new(place, Arc::new(source), grain, Metrics::new().unwrap().of_session("test", "image"), None)
}

fn pattern(guest: &Guest) -> Pattern {
    Pattern { len: guest.mapping(0).len, zero: 3, fails_from: u64::MAX }
}

/// Serves until `work`, which touches the guest's memory on a thread of its own, is done.
fn serve<T: Send>(deliverer: &mut Deliverer, work: impl FnOnce() -> T + Send) -> Result<T, Ended> {
    thread::scope(|scope| {
        let worker = scope.spawn(work);
        while !worker.is_finished() {
            if deliverer.look()? {
                deliverer.answer()?;
            }
            thread::yield_now();
        }
        Ok(worker.join().unwrap())
    })
}

/// A source that does something, which may fail, whenever it is read.
struct Hooked<F> {
    pattern: Pattern,
    hook: F,
}

impl<F> std::fmt::Debug for Hooked<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.pattern.fmt(f)
    }
}

impl<F: Fn(u64) -> Result<(), source::Error> + Send + Sync> PageSource for Hooked<F> {
    fn len(&self) -> u64 {
        self.pattern.len
    }

    fn zeros(&self, offset: u64) -> u64 {
        self.pattern.zeros(offset)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), source::Error> {
        (self.hook)(offset)?;
        self.pattern.read(offset, buffer)
    }
}

#[test]
fn every_page_is_what_the_source_says() {
    let guest = Guest::new(4 << 20, PAGE).unwrap();
    let expected = pattern(&guest);
    let mut deliverer = deliverer(&guest, pattern(&guest), Grain::default());
    serve(&mut deliverer, || {
        // Backwards and forwards, so that windows meet what is there.
        for page in (0..1024).rev().step_by(7).chain(0..1024) {
            let byte = expected.byte(page as u64);
            assert_eq!([guest.byte(page * PAGE), guest.byte(page * PAGE + 4095)], [byte; 2], "page {page}");
        }
    })
    .unwrap();
    let stats = deliverer.stats();
    assert!(stats.faults.get() <= 1024 / 7 + 1, "{}", stats.faults.get());
    assert_eq!(stats.copied.get() + stats.zeroed.get(), 4 << 20);
    assert_eq!(stats.zeroed.get(), 342 * PAGE as u64);
}

#[test]
fn what_the_guest_has_written_is_not_written_over() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let mut deliverer = deliverer(&guest, pattern(&guest), Grain::single());
    serve(&mut deliverer, || guest.write(5 * PAGE, 99)).unwrap();
    // It is forgotten that the page was delivered, as it is after a takeover.
    deliverer.space.set(0..u64::MAX, Kind::Missing);
    deliverer.ahead(0, 1 << 20, trace::Cause::Prefetch).unwrap();
    assert_eq!([guest.byte(5 * PAGE), guest.byte(5 * PAGE + 1), guest.byte(4 * PAGE)], [99, 6, 5]);
}

/// The page is zero, though the source has bytes for it, and stays so for whoever asks after that.
#[test]
fn what_is_given_back_is_zero() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let mut deliverer = deliverer(&guest, pattern(&guest), Grain::default());
    serve(&mut deliverer, || {
        assert_eq!(guest.byte(PAGE), 2);
        // Of these, some are there and some never were.
        guest.give_back(PAGE, 200 * PAGE).unwrap();
        assert_eq!([guest.byte(PAGE), guest.byte(100 * PAGE), guest.byte(200 * PAGE)], [0; 3]);
        assert_eq!(guest.byte(202 * PAGE), 203);
    })
    .unwrap();
    // Handing over all that is missing hands over nothing of what was given back; after that it is the kernel's.
    deliverer.ahead(0, 1 << 20, trace::Cause::Drain).unwrap();
    assert!(!guest.is_there(150 * PAGE));
    deliverer.let_go().unwrap();
    assert_eq!([guest.byte(150 * PAGE), guest.byte(202 * PAGE)], [0, 203]);
    guest.give_back(202 * PAGE, PAGE).unwrap();
    assert_eq!(guest.byte(202 * PAGE), 0);
}

/// The event comes between two pieces of the same stretch, and is of a page in the middle of the second.
#[test]
fn what_is_given_back_between_two_pieces_is_zero() {
    let guest = Arc::new(Guest::new(1 << 20, PAGE).unwrap());
    let removed = PIECE as usize + 7 * PAGE;
    let giver = Arc::clone(&guest);
    let hook = move |offset| {
        if offset == 0 {
            let giver = Arc::clone(&giver);
            thread::spawn(move || giver.give_back(removed, PAGE).unwrap());
            // It waits for somebody to read its event, which copying the first piece does.
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    };
    let source = Hooked { pattern: Pattern { zero: 0, ..pattern(&guest) }, hook };
    let mut deliverer = deliverer(&guest, source, Grain::default());
    deliverer.ahead(0, 1 << 20, trace::Cause::Prefetch).unwrap();
    serve(&mut deliverer, || {
        assert_eq!(guest.byte(removed), 0);
        assert_eq!(guest.byte(removed + PAGE), (removed / PAGE) as u8 + 2);
    })
    .unwrap();
}

/// It may be delivered after the kernel has told of the removal and before it removes it.
#[test]
fn what_was_given_back_and_delivered_is_zero_when_it_is_asked_for_again() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let mut deliverer = deliverer(&guest, pattern(&guest), Grain::default());
    deliverer.space.set(0..u64::MAX, Kind::Removed);
    deliverer.space.set(0..u64::MAX, Kind::There);
    serve(&mut deliverer, || assert_eq!(guest.byte(7 * PAGE), 0)).unwrap();
}

/// Memory is given back again and again while it is being delivered: copies meet `EAGAIN`, and no page turns up with
/// bytes from before.
#[test]
fn giving_back_under_delivery_leaves_zeros_or_the_source() {
    let guest = Guest::new(2 << 20, PAGE).unwrap();
    let expected = pattern(&guest);
    let mut deliverer = deliverer(&guest, pattern(&guest), Grain::default());
    serve(&mut deliverer, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..200 {
                    guest.give_back((round % 256) * PAGE, 8 * PAGE).unwrap();
                }
            });
            for page in (0..512).cycle().take(2048) {
                let byte = guest.byte(page * PAGE);
                assert!(byte == 0 || byte == expected.byte(page as u64), "page {page} has {byte}");
            }
        });
        // Given back, and then touched: zero.
        guest.give_back(0, 264 * PAGE).unwrap();
        (0..264).for_each(|page| assert_eq!(guest.byte(page * PAGE), 0, "page {page}"));
        (264..512).for_each(|page| assert_eq!(guest.byte(page * PAGE), expected.byte(page as u64)));
    })
    .unwrap();
}

/// A page that was delivered and thrown away behind the session's back is delivered again, or whoever waits would wait
/// for ever.
#[test]
fn a_fault_is_an_order_whatever_is_remembered() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let mut deliverer = deliverer(&guest, pattern(&guest), Grain::default());
    deliverer.space.set(0..u64::MAX, Kind::There);
    serve(&mut deliverer, || assert_eq!(guest.byte(7 * PAGE), 8)).unwrap();
    deliverer.space.set(0..u64::MAX, Kind::Gone);
    serve(&mut deliverer, || assert_eq!(guest.byte(70 * PAGE), 71)).unwrap();
}

/// Of the faults, those on pages of the set that had not come yet: not all that come while it is being delivered.
#[test]
fn faults_on_a_working_set_are_counted() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let mut deliverer = deliverer(&guest, pattern(&guest), Grain::single());
    deliverer.expect(Members::new([Step { offset: 4 * PAGE_BYTES, len: 2 * PAGE_BYTES }]));
    deliverer.ahead(4 * PAGE_BYTES, PAGE_BYTES, trace::Cause::Prefetch).unwrap();
    serve(&mut deliverer, || [1, 2, 4, 5, 6].map(|page| guest.byte(page * PAGE))).unwrap();
    assert_eq!((deliverer.stats().faults.get(), deliverer.stats().set_faults.get()), (4, 1));
}

#[test]
fn a_page_that_cannot_be_had_ends_it_and_is_named() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let source = Pattern { fails_from: 512 << 10, ..pattern(&guest) };
    let mut deliverer = deliverer(&guest, source, Grain::default());
    deliverer.ahead(0, 512 << 10, trace::Cause::Prefetch).unwrap();
    let error = deliverer.ahead(512 << 10, 4096, trace::Cause::Prefetch).unwrap_err();
    assert!(matches!(error, Ended::Source { offset: 0x8_0000, .. }), "{error:?}");
    assert!(deliverer.poison(0x8_0000).unwrap());
    // Touching it would be the end of this process.
    let error = guest.populate(512 << 10, PAGE).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::EFAULT | libc::EHWPOISON)), "{error}");
}

/// Delivering neighbours is a favour, and one that fails costs the guest nothing.
#[test]
fn a_neighbour_that_cannot_be_had_is_nobodys_loss() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    for last in [100, 101, 115] {
        let source = Pattern { fails_from: (last + 1) * PAGE as u64, ..pattern(&guest) };
        let byte = source.byte(last);
        let mut deliverer = deliverer(&guest, source, Grain::default());
        serve(&mut deliverer, || assert_eq!(guest.byte(last as usize * PAGE), byte)).unwrap();
    }
}

/// A page that fails is tried again for a while, and everybody else waits meanwhile: only what is asked for is worth it.
#[test]
fn a_neighbour_that_cannot_be_had_takes_no_time() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    // Windows begin where the address says, so what is read at once may begin anywhere.
    let hook = |offset| match offset < 256 << 10 {
        true => Ok(()),
        false => Err(Mock::io_error()),
    };
    let source = Retry::new(Hooked { pattern: pattern(&guest), hook }, Policy::default());
    let mut deliverer = deliverer(&guest, source, Grain { least: 1 << 20, most: 1 << 20 });
    let start = Instant::now();
    serve(&mut deliverer, || assert_eq!(guest.byte(PAGE), 2)).unwrap();
    deliverer.ahead(768 << 10, 4096, trace::Cause::Prefetch).unwrap_err();
    assert!(start.elapsed() < Policy::default().budget / 2, "{:?}", start.elapsed());
}

/// What a VMM can raise by waking its threads again and again is bounded.
#[test]
fn only_so_many_faults_are_remembered() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let mut deliverer = deliverer(&guest, pattern(&guest), Grain::default());
    let address = guest.mapping(0).address;
    let known = Fault { address, write: false, read_at: Instant::now() };
    deliverer.waiting.extend([known; MOST_WAITING]);
    thread::scope(|scope| {
        let touching = scope.spawn(|| guest.byte(100 * PAGE));
        for _ in 0..1000 {
            deliverer.look().unwrap();
            thread::sleep(Duration::from_micros(100));
        }
        let remembered = deliverer.waiting.len();
        // Nobody is forgotten.
        while !touching.is_finished() {
            deliverer.answer().unwrap();
            deliverer.look().unwrap();
        }
        assert_eq!((touching.join().unwrap(), remembered), (101, MOST_WAITING));
    });
}

#[test]
fn regions_that_are_not_registered_are_left_alone() {
    let guest = Guest::new(2 << 20, PAGE).unwrap();
    let memory = Memory::new(guest.uffd().try_clone_to_owned().unwrap()).unwrap();
    let Mapping { address, len, .. } = guest.mapping(0);
    let len = len / 2;
    // Twice as long as what is registered. What is behind it is the guest's as well, and no other test's.
    memory.unregister(address + len, len).unwrap();
    let place = Place { memory, space: Space::new(&[guest.mapping(0)]), protect: false };
    let source = Pattern { len: 2 * len, zero: 0, fails_from: u64::MAX };
    let stats = Metrics::new().unwrap().of_session("test", "image");
    let mut deliverer = Deliverer::new(place, Arc::new(source), Grain::default(), stats, None);
    let delivered = deliverer.ahead(0, 2 * len, trace::Cause::Drain).unwrap();
    assert_eq!(delivered, len);
    let beyond = deliverer.space.find(address + len).unwrap();
    assert_eq!(deliverer.space.kind(beyond), Kind::Gone);
    assert_eq!(guest.byte(len as usize - 1), 256_u64.wrapping_sub(1) as u8 % 255 + 1);
}

#[test]
fn other_descriptors_are_told_apart() {
    let pipe = rustix::pipe::pipe().unwrap().0;
    let error = Memory::new(pipe).err().unwrap();
    assert!(error.to_string().contains("no userfaultfd but `pipe:"), "{error}");
    let file = tempfile::tempfile().unwrap();
    assert!(Memory::new(file.into()).is_err());
}

/// A guest whose memory has room for `places` huge pages behind its first 2 MiB, and where they are.
fn guest_of(places: usize) -> (Guest, usize) {
    let guest = Guest::new((places + 2) * HUGE_BYTES as usize, PAGE).unwrap();
    let past = guest.mapping(0).address % HUGE_BYTES;
    (guest, (HUGE_BYTES - past) as usize)
}

/// However long they take.
fn use_huge_pages(deliverer: &mut Deliverer, wanted: Option<Step>) -> bool {
    let uses = deliverer.use_huge_pages(wanted.into_iter());
    deliverer.huge.iter_mut().for_each(|huge| huge.most_time = Duration::MAX);
    uses
}

/// Kilobytes of this process's memory between two addresses that are in huge pages; `None` where there never are any.
fn huge_kib(guest: &Guest) -> Option<u64> {
    let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    if enabled.contains("[never]") {
        return None;
    }
    let Mapping { address, len, .. } = guest.mapping(0);
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut inside, mut sum) = (false, 0);
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap();
        if let Some((start, _)) = first.split_once('-') {
            inside = (address..address + len).contains(&u64::from_str_radix(start, 16).unwrap());
        } else if let Some(kib) = line.strip_prefix("AnonHugePages:").filter(|_| inside) {
            sum += kib.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap();
        }
    }
    Some(sum)
}

#[test]
fn a_guest_that_walks_on_is_given_huge_pages_with_the_same_bytes() {
    let (guest, first) = guest_of(8);
    let expected = Pattern { zero: 0, ..pattern(&guest) };
    let mut deliverer = deliverer(&guest, Pattern { zero: 0, ..pattern(&guest) }, Grain::default());
    let has_huge = use_huge_pages(&mut deliverer, None);
    let pages = first / PAGE..first / PAGE + 8 * 512;
    serve(&mut deliverer, || {
        for page in pages.clone() {
            assert_eq!(guest.byte(page * PAGE), expected.byte(page as u64), "page {page}");
        }
    })
    .unwrap();
    if let Some(kib) = huge_kib(&guest).filter(|_| has_huge) {
        assert!(kib >= 6 * 2048, "{kib} KiB");
        assert!(deliverer.stats().faults.get() < 20, "{}", deliverer.stats().faults.get());
    }
}

#[test]
fn what_is_wanted_comes_in_huge_pages_unless_many_of_them_are_zero() {
    for (zero, expected) in [(3, 0), (64, 4 * 2048)] {
        let (guest, first) = guest_of(4);
        let source = Pattern { zero, ..pattern(&guest) };
        let mut deliverer = deliverer(&guest, source, Grain::default());
        let wanted = Step { offset: first as u64, len: 4 * HUGE_BYTES };
        let has_huge = use_huge_pages(&mut deliverer, Some(wanted));
        let delivered = deliverer.ahead(wanted.offset, wanted.len, trace::Cause::Prefetch).unwrap();
        assert_eq!(delivered, wanted.len);
        let expected_bytes = Pattern { zero, ..pattern(&guest) };
        for page in (first / PAGE..first / PAGE + 4 * 512).step_by(5) {
            assert_eq!(guest.byte(page * PAGE), expected_bytes.byte(page as u64), "page {page}");
        }
        if let Some(kib) = huge_kib(&guest).filter(|_| has_huge) {
            assert_eq!(kib, expected, "one zero page in {zero}");
        }
    }
}

#[test]
fn a_page_in_the_way_of_a_huge_one_stays() {
    let (guest, first) = guest_of(1);
    let mut deliverer = deliverer(&guest, Pattern { zero: 0, ..pattern(&guest) }, Grain::single());
    serve(&mut deliverer, || guest.write(first + 7 * PAGE, 99)).unwrap();
    use_huge_pages(&mut deliverer, Some(Step { offset: first as u64, len: HUGE_BYTES }));
    // It is forgotten that the page was delivered, as it is after a takeover.
    deliverer.space.set(0..u64::MAX, Kind::Missing);
    deliverer.ahead(first as u64, HUGE_BYTES, trace::Cause::Prefetch).unwrap();
    assert_eq!(guest.byte(first + 7 * PAGE), 99);
    for page in [0, 6, 8, 511] {
        assert_eq!(guest.byte(first + page * PAGE), ((first / PAGE + page) % 255) as u8 + 1);
    }
}

#[test]
fn where_huge_pages_are_dear_small_ones_come() {
    let (guest, first) = guest_of(4);
    let mut deliverer = deliverer(&guest, Pattern { zero: 0, ..pattern(&guest) }, Grain::default());
    let wanted = Step { offset: first as u64, len: 4 * HUGE_BYTES };
    if deliverer.use_huge_pages(std::iter::once(wanted)) {
        deliverer.huge.iter_mut().for_each(|huge| huge.most_time = Duration::ZERO);
    }
    let delivered = deliverer.ahead(wanted.offset, wanted.len, trace::Cause::Prefetch).unwrap();
    assert_eq!((delivered, huge_kib(&guest).unwrap_or(0)), (wanted.len, 0));
    assert!(deliverer.huge.is_none());
}
