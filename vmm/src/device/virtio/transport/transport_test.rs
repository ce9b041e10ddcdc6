use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use snapshot_format::state::VirtioMmioState;
use vm_memory::{Bytes, GuestAddress};

use super::super::mock::*;
use super::super::{Broken, feature};
use super::*;
use crate::lifecycle::Quiesced;

/// Two queues whose requests are answered by their first byte, and a configuration space of 6 bytes.
struct Echo {
    config: Arc<ConfigSpace>,
    activated: Option<u64>,
    /// Requests begun and answered.
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    /// How long a request takes.
    slow: Duration,
    /// Calls for the device as long as it is readable.
    source: OwnedFd,
}

const OWN_FEATURE: u64 = 1 << 3;

impl Echo {
    fn new() -> Self {
        let config = Arc::new(ConfigSpace::new(vec![1, 2, 3, 4, 5, 6], 4..5));
        let (begun, ended) = Default::default();
        let source = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        Self { config, activated: None, begun, ended, slow: Duration::ZERO, source }
    }
}

impl VirtioDevice for Echo {
    fn label(&self) -> String {
        "an echo".to_owned()
    }

    fn id(&self) -> u32 {
        42
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[32, 16]
    }

    fn features(&self) -> u64 {
        OWN_FEATURE
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.config.clone()
    }

    fn activate(&mut self, driver_features: u64) {
        self.activated = Some(driver_features);
    }

    fn reset(&mut self) {
        self.activated = None;
    }

    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.source.as_fd()]
    }

    fn queue_ready(&mut self, queue: usize, queues: &mut Queues) -> Result<(), Broken> {
        let queue = queues.get_mut(queue).expect("only queues in use are served");
        queue.serve(|chain, memory| {
            self.begun.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(self.slow);
            let mut byte = [0];
            chain.readable.read(memory, 0, &mut byte)?;
            let written = chain.writable.write(memory, 0, &byte)?;
            self.ended.fetch_add(1, Ordering::SeqCst);
            Ok(written as u32)
        })
    }

    fn source_ready(&mut self, _: usize, _: &mut Queues) -> Result<(), Broken> {
        Ok(())
    }

    fn drain(&mut self, _: &mut Queues) -> Result<(), Broken> {
        Ok(())
    }
}

fn wired(memory: &GuestRam) -> Wiring {
    Wiring { memory: memory.clone(), irq: IrqLine::new().unwrap() }
}

fn echo_over(memory: &GuestRam) -> Mmio<Echo> {
    Mmio::new(Slot::new(3).unwrap(), Echo::new(), wired(memory)).unwrap()
}

fn echo() -> (Mmio<Echo>, GuestRam) {
    let memory = ram();
    (echo_over(&memory), memory)
}

/// How many edges there were since the last time.
fn edges(device: &Mmio<Echo>) -> u64 {
    device.line().eventfd().read().unwrap_or(0)
}

fn wait_for(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what() {
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::yield_now();
    }
}

#[test]
fn a_driver_finds_out_what_it_is() {
    let (mut device, _) = echo();
    let read = |device: &mut Mmio<Echo>, at| read_register(device, at);
    assert_eq!(read(&mut device, 0x000), u32::from_le_bytes(*b"virt"));
    assert_eq!(read(&mut device, 0x004), 2);
    assert_eq!(read(&mut device, 0x008), 42);
    let offered = [0, 1, 2].map(|half| {
        write_register(&mut device, 0x14, half);
        read_register(&mut device, 0x10)
    });
    assert_eq!(offered, [1 << 28 | 1 << 29 | 1 << 3, 1, 0]);
    let sizes = [0, 1, 2, u32::MAX].map(|queue| {
        write_register(&mut device, 0x30, queue);
        read_register(&mut device, 0x34)
    });
    assert_eq!(sizes, [32, 16, 0, 0]);
    assert_eq!([0xb0, 0xb4, 0xb8, 0xbc].map(|at| read_register(&mut device, at)), [u32::MAX; 4]);
}

#[test]
fn other_widths_read_as_ones_and_write_nothing() {
    let (mut device, _) = echo();
    for width in [1, 2, 8] {
        let mut bytes = vec![0xff; width];
        device.read(0, &mut bytes);
        assert_eq!(bytes, vec![0xff; width]);
        device.write(0x70, &vec![1; width]);
    }
    assert_eq!(status(&mut device), 0);
}

#[test]
fn features_are_taken_only_if_all_were_offered_and_the_standard_is_among_them() {
    for (features, accepted) in [
        (feature::VERSION_1, true),
        (feature::VERSION_1 | OWN_FEATURE, true),
        (OWN_FEATURE, false),
        (feature::VERSION_1 | 1 << 5, false),
        (u64::MAX, false),
    ] {
        let (mut device, _) = echo();
        negotiate(&mut device, features);
        assert_eq!(status(&mut device) & 8 != 0, accepted, "{features:#x}");
        // Ready without features agreed on is not ready.
        write_register(&mut device, 0x70, READY);
        assert_eq!(status(&mut device) == READY, accepted, "{features:#x}");
        assert_eq!(device.device().unwrap().activated, accepted.then_some(features));
        // Too late to change anything, unless there is no agreement yet.
        write_register(&mut device, 0x24, 0);
        write_register(&mut device, 0x20, 0);
        let saved = device.save_transport(&Quiesced::in_test());
        assert_eq!(saved.driver_features, if accepted { features } else { features >> 32 << 32 });
    }
}

#[test]
fn steps_out_of_order_are_not_taken() {
    let (mut device, _) = echo();
    for value in [2, 4, 8, 64] {
        write_register(&mut device, 0x70, value);
        assert_eq!(status(&mut device), 0, "{value}");
    }
    negotiate(&mut device, feature::VERSION_1);
    write_register(&mut device, 0x70, 1);
    assert_eq!(status(&mut device), 1 | 2 | 8, "nothing is taken away but by a reset");
    write_register(&mut device, 0x70, 128);
    write_register(&mut device, 0x70, READY);
    assert_eq!(status(&mut device), 1 | 2 | 8 | 128, "a driver that gave up does not become ready");
    write_register(&mut device, 0x70, 0);
    assert_eq!(status(&mut device), 0);
}

#[test]
fn requests_are_answered_and_interrupt_the_driver_when_it_wants_that() {
    let (mut device, memory) = echo();
    let mut driver = Driver::start(&mut device, &memory);
    driver.put(BUFFERS, b"ab");
    let first = driver.request(&[(BUFFERS, 1, 0), (BUFFERS + 0x100, 4, WRITE)]);
    let second = driver.indirect(0x7000, &[(BUFFERS + 1, 1, 0), (BUFFERS + 0x200, 4, WRITE)]);
    driver.want_interrupt_after(1);
    device.serve_here();
    assert_eq!(driver.answer(), Some((first.into(), 1)));
    assert_eq!(driver.answer(), Some((second.into(), 1)));
    assert_eq!(driver.answer(), None);
    assert_eq!(
        (driver.bytes(BUFFERS + 0x100, 2), driver.bytes(BUFFERS + 0x200, 2)),
        (b"a\0".into(), b"b\0".into())
    );
    assert_eq!(edges(&device), 1, "the driver wanted to hear of the second only");
    assert_eq!(read_register(&mut device, 0x60), 1);
    write_register(&mut device, 0x64, 1);
    assert_eq!(read_register(&mut device, 0x60), 0);
}

#[test]
fn a_queue_that_makes_no_sense_does_not_become_ready() {
    // Register, value: one thing wrong at a time.
    let outside_and_across = [(0xa0, 0x30_0000), (0x90, 0xf_fffe), (0x80, 0x18_0000), (0xa4, 1)];
    let misaligned = [(0x80, 0x1_0008), (0x90, 0x1_4001), (0xa0, 0x1_6002)];
    let sizes = [(0x38, 0), (0x38, 12), (0x38, 64), (0x38, 0x1_0010)];
    for (register, value) in [outside_and_across.as_slice(), &misaligned, &sizes, &[(0x90, 0)]].concat() {
        let (mut device, memory) = echo();
        negotiate(&mut device, feature::VERSION_1);
        Driver::set_up(&mut device, &memory, 0);
        write_register(&mut device, 0x44, 0);
        write_register(&mut device, register, value);
        write_register(&mut device, 0x44, 1);
        assert_eq!(read_register(&mut device, 0x44), 0, "{register:#x} = {value:#x}");
        assert_eq!(status(&mut device), 1 | 2 | 8 | NEEDS_RESET);
        assert_eq!(edges(&device), 0, "the driver is not ready to be told");
        write_register(&mut device, 0x70, 0);
        Driver::start(&mut device, &memory);
    }
}

#[test]
fn a_ready_queue_is_not_changed_and_one_without_features_not_set_up() {
    let (mut device, memory) = echo();
    write_register(&mut device, 0x80, 0x5000);
    write_register(&mut device, 0x44, 1);
    assert_eq!(read_register(&mut device, 0x44), 0);
    Driver::start(&mut device, &memory);
    let before = device.save_transport(&Quiesced::in_test());
    for register in [0x38, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4] {
        write_register(&mut device, register, 8);
    }
    assert_eq!(device.save_transport(&Quiesced::in_test()), before);
}

#[test]
fn a_broken_ring_stops_the_device_until_it_is_reset() {
    let (mut device, memory) = echo();
    let mut driver = Driver::start(&mut device, &memory);
    driver.set_avail(SIZE + 1);
    device.serve_here();
    assert_eq!(status(&mut device), READY | NEEDS_RESET);
    assert_eq!((read_register(&mut device, 0x60), edges(&device)), (2, 1));
    // From here on it looks at nothing.
    driver.set_avail(0);
    driver.request(&[(BUFFERS, 1, WRITE)]);
    device.serve_here();
    assert_eq!(driver.answer(), None);
    write_register(&mut device, 0x70, 0);
    assert_eq!((status(&mut device), read_register(&mut device, 0x60)), (0, 0));
    let mut driver = Driver::start(&mut device, &memory);
    driver.request(&[(BUFFERS, 1, WRITE)]);
    device.serve_here();
    assert!(driver.answer().is_some());
}

/// What calls for a device goes on calling when it was given up, and nobody answers before the reset.
#[test]
fn a_worker_whose_device_was_given_up_sleeps() {
    let memory = ram();
    let device = Echo::new();
    rustix::io::write(&device.source, &1_u64.to_ne_bytes()).unwrap();
    // A place that no other test has, by which the thread is known.
    let mut device = Mmio::new(Slot::new(7).unwrap(), device, wired(&memory)).unwrap();
    let driver = Driver::start(&mut device, &memory);
    driver.set_avail(1000);
    device.resume().unwrap();
    wait_for(|| device.interrupt.needs_reset());
    let before = on_cpu("virtio7");
    std::thread::sleep(Duration::from_millis(200));
    let busy = on_cpu("virtio7") - before;
    assert!(busy < Duration::from_millis(20), "the worker is busy: {busy:?} of 200 ms");
    write_register(&mut device, 0x70, 0);
    assert_eq!(read_register(&mut device, 0x70), 0, "it can be reset");
}

/// For how long a thread of this process was on a CPU.
fn on_cpu(name: &str) -> Duration {
    let mut tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let is_it = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let task = tasks.find(is_it).expect("the thread is there");
    let schedstat = std::fs::read_to_string(task.join("schedstat")).unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn the_configuration_is_read_whole_or_in_parts_and_written_where_allowed() {
    let (mut device, _) = echo();
    let mut bytes = [0xff; 8];
    device.read(0x100, &mut bytes);
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 0xff, 0xff]);
    device.write(0x102, &[9; 8]);
    device.write(0x1000, &[9; 8]);
    assert_eq!(device.config.bytes(), [1, 2, 3, 4, 9, 6]);
    assert_eq!(read_register(&mut device, 0xfc), 0, "the driver's own writes are no news to it");
    device.config.change(|bytes| bytes[0] = 7);
    assert_eq!((read_register(&mut device, 0xfc), read_register(&mut device, 0x100)), (1, 0x0403_0207));
}

#[test]
fn a_worker_answers_a_doorbell_and_is_gone_when_the_machine_rests() {
    let (mut device, memory) = echo();
    device.resume().unwrap();
    assert!(device.worker.is_none(), "no driver, no thread");
    let mut driver = Driver::start(&mut device, &memory);
    driver.put(BUFFERS, b"x");
    for round in 0..100_u16 {
        driver.want_interrupt_after(round);
        driver.request(&[(BUFFERS, 1, 0), (BUFFERS + 0x100, 1, WRITE)]);
        write_register(&mut device, 0x50, 0);
        wait_for(|| driver.clone().answer().is_some());
        assert_eq!(driver.answer().map(|(_, len)| len), Some(1));
    }
    wait_for(|| device.interrupt.status() == 1);
    // Queues that there are not.
    write_register(&mut device, 0x50, 2);
    write_register(&mut device, 0x50, u32::MAX);
    device.quiesce();
    assert!(device.worker.is_none());
    assert_eq!(device.device().unwrap().ended.load(Ordering::SeqCst), 100);
}

#[test]
fn a_driver_that_resets_a_busy_device_finds_it_at_rest() {
    let memory = ram();
    let device = Echo { slow: Duration::from_millis(5), ..Echo::new() };
    let (begun, ended) = (device.begun.clone(), device.ended.clone());
    let mut device = Mmio::new(Slot::new(0).unwrap(), device, wired(&memory)).unwrap();
    device.resume().unwrap();
    let mut driver = Driver::start(&mut device, &memory);
    for _ in 0..8 {
        driver.request(&[(BUFFERS, 1, WRITE)]);
    }
    write_register(&mut device, 0x50, 0);
    wait_for(|| begun.load(Ordering::SeqCst) > 0);
    write_register(&mut device, 0x70, 0);
    let at_reset = begun.load(Ordering::SeqCst);
    assert_eq!(ended.load(Ordering::SeqCst), at_reset, "what was begun was ended");
    assert!(at_reset < 8, "the rest was not begun");
    assert_eq!(read_register(&mut device, 0x60), 0);
    // The machine still runs, and so does the device again.
    let mut driver = Driver::start(&mut device, &memory);
    driver.request(&[(BUFFERS, 1, WRITE)]);
    write_register(&mut device, 0x50, 0);
    wait_for(|| driver.clone().answer().is_some());
}

#[test]
fn a_machine_that_rests_in_the_middle_goes_on_exactly_there() {
    let memory = ram();
    let device = Echo { slow: Duration::from_millis(2), ..Echo::new() };
    let begun = device.begun.clone();
    let mut device = Mmio::new(Slot::new(3).unwrap(), device, wired(&memory)).unwrap();
    device.resume().unwrap();
    let mut driver = Driver::start(&mut device, &memory);
    let heads: Vec<u32> = (0..8_u64)
        .map(|n| {
            driver.put(BUFFERS + n, &[n as u8 + 1]);
            driver.request(&[(BUFFERS + n, 1, 0), (BUFFERS + 0x100 + n, 1, WRITE)]).into()
        })
        .collect();
    write_register(&mut device, 0x50, 0);
    wait_for(|| begun.load(Ordering::SeqCst) > 1);
    device.quiesce();
    let saved = device.save_transport(&Quiesced::in_test());
    let done = usize::from(saved.queues[0].next_used);
    assert_eq!(saved.queues[0].next_avail, saved.queues[0].next_used, "nothing is half done");
    assert!((1..8).contains(&done), "it was in the middle: {done}");
    assert_eq!(saved.interrupt_status, 1);
    drop(device);

    let mut restored = Mmio::restore_transport(&saved, Echo::new(), wired(&memory)).unwrap();
    assert_eq!(restored.save_transport(&Quiesced::in_test()), saved);
    assert_eq!(edges(&restored), 0, "quiet until the chipset is there");
    restored.raise_pending();
    assert_eq!(edges(&restored), 1, "the driver has not acknowledged");
    assert_eq!(restored.device().unwrap().activated, Some(saved.driver_features));
    restored.resume().unwrap();
    wait_for(|| memory.read_obj::<u16>(GuestAddress(0x1_6002)).unwrap() == 8);
    let answered: Vec<u32> = std::iter::from_fn(|| driver.answer()).map(|(head, _)| head).collect();
    assert_eq!(answered, heads, "each once, in order");
    assert_eq!(driver.bytes(BUFFERS + 0x100, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_queue_may_be_given_up_and_set_up_again_while_the_driver_is_ready() {
    let (mut device, memory) = echo();
    device.resume().unwrap();
    let mut first = Driver::start(&mut device, &memory);
    let mut second = Driver::set_up(&mut device, &memory, 1);
    second.request(&[(BUFFERS, 1, WRITE)]);
    write_register(&mut device, 0x50, 1);
    wait_for(|| second.clone().answer().is_some());
    write_register(&mut device, 0x30, 0);
    write_register(&mut device, 0x44, 0);
    assert_eq!(read_register(&mut device, 0x44), 0);
    first.request(&[(BUFFERS, 1, WRITE)]);
    write_register(&mut device, 0x50, 0);
    second.request(&[(BUFFERS, 1, WRITE)]);
    write_register(&mut device, 0x50, 1);
    assert!(second.answer().is_some());
    wait_for(|| second.clone().answer().is_some());
    assert_eq!(first.answer(), None, "the device has forgotten that queue");
    let mut first = Driver::set_up(&mut device, &memory, 0);
    first.request(&[(BUFFERS, 1, WRITE)]);
    write_register(&mut device, 0x50, 0);
    wait_for(|| first.clone().answer().is_some());
}

#[test]
fn what_was_saved_half_way_through_a_negotiation_comes_back() {
    let (mut device, memory) = echo();
    let check = |device: &Mmio<Echo>| {
        let saved = device.save_transport(&Quiesced::in_test());
        let restored = Mmio::restore_transport(&saved, Echo::new(), wired(&memory)).unwrap();
        assert_eq!(restored.save_transport(&Quiesced::in_test()), saved);
    };
    check(&device);
    write_register(&mut device, 0x14, 1);
    write_register(&mut device, 0x30, 7);
    negotiate(&mut device, feature::VERSION_1);
    check(&device);
    Driver::set_up(&mut device, &memory, 1);
    device.config.change(|bytes| bytes[5] = 0);
    check(&device);
    write_register(&mut device, 0x70, READY);
    device.interrupt.give_up(42, &io::Error::other("broken"), true);
    check(&device);
}

#[test]
fn states_that_no_device_has_are_refused() {
    let (mut device, memory) = echo();
    Driver::start(&mut device, &memory);
    let good = device.save_transport(&Quiesced::in_test());
    let refuse = |change: &dyn Fn(&mut VirtioMmioState)| {
        let mut state = good.clone();
        change(&mut state);
        let restored = Mmio::restore_transport(&state, Echo::new(), wired(&memory));
        restored.map(drop).unwrap_err()
    };
    assert!(matches!(refuse(&|s| s.slot = 8), Error::Slot { slot: 8 }));
    assert!(matches!(refuse(&|s| s.device_features |= 1 << 40), Error::Features { .. }));
    let register = |change: &dyn Fn(&mut VirtioMmioState)| match refuse(change) {
        Error::Register { register, .. } => register,
        other => panic!("{other}"),
    };
    assert_eq!(register(&|s| s.driver_features |= 1 << 40), "DriverFeatures");
    assert_eq!(register(&|s| s.driver_features = 0), "DriverFeatures");
    assert_eq!(register(&|s| s.status = 4), "Status");
    assert_eq!(register(&|s| s.status |= 16), "Status");
    assert_eq!(register(&|s| s.status = 1 | 2 | 4), "Status");
    assert_eq!(register(&|s| s.status = 1 | 2), "QueueReady");
    assert_eq!(register(&|s| s.interrupt_status = 4), "InterruptStatus");
    assert_eq!(register(&|s| s.queues[0].max_size = 64), "QueueNumMax");
    assert_eq!(register(&|s| s.queues[1].max_size = 0), "QueueNumMax");
    assert!(matches!(refuse(&|s| s.config.push(0)), Error::ConfigLength { saved: 7, present: 6 }));
    assert!(matches!(refuse(&|s| s.queues.truncate(1)), Error::QueueCount { saved: 1, present: 2 }));
    assert!(matches!(refuse(&|s| s.queues[0].size = 0), Error::Queue { queue: 0, .. }));
    assert!(matches!(refuse(&|s| s.queues[0].used_ring = 0x18_0000), Error::Queue { queue: 0, .. }));
    assert!(matches!(refuse(&|s| s.queues[0].desc_table += 8), Error::Queue { queue: 0, .. }));
}
