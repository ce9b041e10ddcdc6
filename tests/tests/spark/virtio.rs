//! Devices at work while the machine is snapshotted, killed and restored, again and again: every answer is right, and
//! comes exactly once.

use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rekindle_tests::queues::{self, Progress};
use rekindle_tests::state::State;
use rekindle_tests::{Case, Image, Launch, Scratch, Vm, cases, note, patience, verbs};
use snapshot_format::state::{VirtioBlkState, VirtioRngState, VirtioVsockState};

use crate::KVM;

/// Bytes of the disks.
const DISK: u64 = 8 << 20;
/// Lives of the guest that is always at work, each of which ends in a snapshot.
const LIVES: usize = 200;
/// What there is time for in software emulation.
const IN_THE_LAB: usize = 12;
/// The longest that a life goes on after it was seen to be at work, in us.
const LONGEST: u64 = 6000;
/// The seed of the instants, if somebody wants them again.
const SEED: &str = "REKINDLE_SEED";

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "spark",
        KVM,
        [
            devices_answer_before_and_after_a_restore,
            a_device_that_is_not_there_is_not_found,
            requests_in_flight_at_two_hundred_random_moments_are_answered_once,
        ]
    )
}

/// A file for a disk.
fn disk(here: &Scratch) -> String {
    let path = here.path("disk");
    let file = std::fs::File::create(&path).expect("a scratch file can be made");
    file.set_len(DISK).expect("it takes any length");
    format!("data={}", path.display())
}

/// The port of the host's that sends back what it is sent.
const ECHO: u32 = 7;

/// Sends back what comes to [`ECHO`].
fn echo(here: &Scratch) {
    let listener = UnixListener::bind(here.path(format!("vsock_{ECHO}"))).expect("a scratch directory");
    thread::spawn(move || {
        for connection in listener.incoming() {
            thread::spawn(move || -> std::io::Result<u64> {
                let mut connection = connection?;
                std::io::copy(&mut connection.try_clone()?, &mut connection)
            });
        }
    });
}

fn boot(here: &Scratch) -> Vm {
    let (disk, vsock) = (disk(here), format!("cid=3,uds={}", here.path("vsock").display()));
    let args = ["--memory", "16M", "--cmdline", "spark.fill=0", "--disk", &disk, "--rng", "--vsock", &vsock];
    echo(here);
    let mut vm = Vm::boot(args);
    vm.expect("spark: ready\n");
    vm
}

/// Demands a verdict of `ok`.
#[track_caller]
fn ok(vm: &mut Vm, command: &str) -> String {
    let answer = vm.ask(command);
    assert!(answer.starts_with("ok "), "`{command}`: {answer}: {}", vm.story());
    answer
}

fn devices_answer_before_and_after_a_restore() {
    let here = Scratch::new();
    let mut vm = boot(&here);
    assert_eq!(ok(&mut vm, "disk info"), "ok disk data of 16384 sectors in slot 0");
    assert_eq!(ok(&mut vm, "disk fill 7"), "ok disk filled 2048 blocks seed 7");
    for depth in [1, 4, 16] {
        assert_eq!(ok(&mut vm, &format!("disk run 400 {depth} {depth}")), "ok disk 400");
    }
    ok(&mut vm, "rng 100K");
    assert_eq!(ok(&mut vm, "vsock info"), "ok vsock cid 3");
    let echoed = format!("vsock echo {ECHO} 100K");
    assert_eq!(ok(&mut vm, &echoed), "ok stream 102400 bytes 0 resets");
    let image = verbs::snapshot(&vm, here.path("image"));
    vm.kill();
    let mut vm = Vm::restore(&image);
    assert_eq!(ok(&mut vm, "disk verify"), "ok disk verified 2048 blocks");
    assert_eq!(ok(&mut vm, "disk run 400 9 16"), "ok disk 400");
    assert!(ok(&mut vm, "rng 100K").ends_with(" requests 102400 bytes"));
    assert_eq!(ok(&mut vm, &echoed), "ok stream 102400 bytes 0 resets");
    assert_eq!(ok(&mut vm, "disk verify"), "ok disk verified 2048 blocks");
    // That the comparison finds a difference: somebody else writes to the disk.
    let other = std::fs::OpenOptions::new().read(true).write(true).open(here.path("disk"));
    let other = other.expect("it is ours");
    let mut byte = [0];
    other.read_exact_at(&mut byte, DISK / 2).expect("it can be read");
    other.write_all_at(&[!byte[0]], DISK / 2).expect("it can be written");
    assert_eq!(vm.ask("disk verify"), "bad the disk holds other data than was written");
    vm.stop();
}

fn a_device_that_is_not_there_is_not_found() {
    let mut vm = Launch::new(["boot", "--memory", "16M", "--cmdline", "spark.fill=0"]).vm();
    vm.expect("spark: ready\n");
    assert_eq!(vm.ask("disk info"), "err no disk");
    assert_eq!(vm.ask("rng 1"), "err no entropy device");
    assert_eq!(vm.ask("vsock info"), "err no vsock device");
    vm.stop();
}

/// Steps of splitmix64, for the instants.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var(SEED).ok().map(|text| text.parse().expect("a seed is a number"));
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        Self(seed.unwrap_or_else(now))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// How much the guest says that it has done: requests to the disk, draws, and bytes that came back from the host.
type Done = [u64; 3];

/// Asks the guest at work how far it is.
#[track_caller]
fn how_far(vm: &mut Vm) -> Done {
    vm.send_bytes(b"s");
    let line = vm.line();
    let story = line.strip_prefix("at disk ").unwrap_or_else(|| panic!("`{line}`: {}", vm.story()));
    let numbers = story.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    let numbers: Vec<u64> = numbers.map(|number| number.parse().expect("it was made of digits")).collect();
    let [disk, draws, _, echoed, _] = numbers[..] else { panic!("`{line}` does not tell of every device") };
    [disk, draws, echoed]
}

/// Waits until every device has answered since `before`.
#[track_caller]
fn goes_on(vm: &mut Vm, before: Done) -> Done {
    let further = |now: &Done| now.iter().zip(before).all(|(now, before)| *now > before);
    let now = patience::until(patience::SOON, || Some(how_far(vm)).filter(further));
    now.unwrap_or_else(|| panic!("a device does not go on after {before:?}: {}", vm.story()))
}

/// The queues of an image: the disk's, the entropy device's, and packets to the host.
fn queues_of(image: &Image) -> [Progress; 3] {
    let mut state = State::of(image);
    let blk: VirtioBlkState = state.value("virtio-blk:data");
    let rng: VirtioRngState = state.value("virtio-rng");
    let vsock: VirtioVsockState = state.value("virtio-vsock");
    [&blk.transport.queues[0], &rng.transport.queues[0], &vsock.transport.queues[1]]
        .map(|queue| queues::progress(image, queue))
}

/// What the snapshots have met, by device.
#[derive(Default)]
struct Tally {
    outstanding: usize,
    requests: usize,
    untaken: usize,
    unseen: usize,
}

impl Tally {
    fn add(&mut self, queue: Progress) {
        // Every request that was begun has been answered: that is what a device at rest is.
        assert_eq!(queue.taken, queue.answered, "{queue:?}");
        self.outstanding += usize::from(queue.outstanding() > 0);
        self.requests += usize::from(queue.outstanding());
        self.untaken += usize::from(queue.untaken() > 0);
        self.unseen += usize::from(queue.unseen() > 0);
    }
}

fn requests_in_flight_at_two_hundred_random_moments_are_answered_once() {
    let here = Scratch::new();
    let mut dice = Dice::new();
    note(format!("{SEED}={} chooses the same moments again", dice.0));
    let lives = if patience::in_lab() { IN_THE_LAB } else { LIVES };
    let mut vm = boot(&here);
    ok(&mut vm, "disk fill 1");
    vm.send(&format!("mix 1 {ECHO}"));
    let mut done = [0; 3];
    let mut tallies = [Tally::default(), Tally::default(), Tally::default()];
    let image = here.path("image");
    for life in 0..lives {
        done = goes_on(&mut vm, done);
        thread::sleep(Duration::from_micros(dice.below(LONGEST)));
        let next = here.path(format!("image-{life}"));
        let taken = verbs::snapshot(&vm, &next);
        vm.kill();
        for (tally, queue) in tallies.iter_mut().zip(queues_of(&taken)) {
            tally.add(queue);
        }
        replace(&image, &next);
        vm = Vm::restore(&image);
    }
    goes_on(&mut vm, done);
    vm.send_bytes(b"q");
    let told = vm.line();
    assert!(told.starts_with("ok disk "), "{told}: {}", vm.story());
    assert_eq!(ok(&mut vm, "disk verify"), "ok disk verified 2048 blocks");
    vm.stop();
    for (name, tally) in ["disk", "rng", "vsock"].into_iter().zip(&tallies) {
        let Tally { outstanding, requests, untaken, unseen } = tally;
        note(format!(
            "{name}: {lives} snapshots, {outstanding} with requests in flight ({requests} of them), {untaken} with some \
             that no device had seen, {unseen} with answers that the guest had not seen"
        ));
        assert!(
            outstanding * 4 >= lives * 3,
            "{name}: only {outstanding} of {lives} met a request in flight"
        );
    }
    note(format!("the guest's own count: {told}"));
}

/// The old image makes room for the new one, which needs nothing of it.
fn replace(image: &Path, next: &Path) {
    if image.exists() {
        std::fs::remove_dir_all(image).expect("the image is ours");
    }
    std::fs::rename(next, image).expect("both lie in one directory");
}
