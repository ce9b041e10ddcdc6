use std::sync::atomic::AtomicBool;

use vm_memory::{Bytes, GuestAddress};

use super::super::mock::*;
use super::*;
use crate::irq::IrqLine;
use crate::memory::GuestRam;

/// A queue where the mock driver has its first one, without a device.
fn queue(memory: &GuestRam) -> Virtqueue {
    let registers = QueueRegisters {
        max_size: SIZE,
        size: SIZE,
        ready: true,
        desc_table: 0x1_0000,
        avail_ring: 0x1_4000,
        used_ring: 0x1_6000,
    };
    let ring = registers.queue(memory, true, (0, 0)).unwrap();
    let interrupt = Arc::new(Interrupt::new(IrqLine::new().unwrap(), 0, false));
    Virtqueue::new(ring, memory.clone(), interrupt, Arc::<AtomicBool>::default())
}

/// A driver whose device nobody asks.
fn driver(memory: &GuestRam) -> Driver {
    let wiring = super::super::transport::Wiring { memory: memory.clone(), irq: IrqLine::new().unwrap() };
    let slot = super::super::Slot::new(0).unwrap();
    let rng = super::super::rng::Rng::default();
    Driver::start(&mut super::super::transport::Mmio::new(slot, rng, wiring).unwrap(), memory)
}

fn rig() -> (Virtqueue, Driver) {
    let memory = ram();
    let driver = driver(&memory);
    (queue(&memory), driver)
}

fn problem(queue: &mut Virtqueue) -> &'static str {
    match queue.take() {
        Err(Broken::Chain { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn buffers_are_one_whatever_their_borders() {
    let (mut queue, mut driver) = rig();
    driver.put(BUFFERS, b"abcdef");
    let buffers = [
        (BUFFERS, 2, 0),
        (BUFFERS, 0, 0),
        (BUFFERS + 2, 4, 0),
        // Across nothing: the last bytes of one region, and the first of another.
        (0xf_fffe, 2, WRITE),
        (0x20_0000, 3, WRITE),
    ];
    let head = driver.indirect(0x7000, &buffers);
    let chain = queue.take().unwrap().unwrap();
    let memory = queue.memory();
    assert_eq!((chain.head(), chain.readable.len(), chain.writable.len()), (head, 6, 5));
    let mut bytes = [0; 4];
    assert_eq!(chain.readable.read(memory, 1, &mut bytes).unwrap(), 4);
    assert_eq!(&bytes, b"bcde");
    assert_eq!(chain.readable.read(memory, 4, &mut bytes).unwrap(), 2);
    assert_eq!(&bytes, b"efde");
    assert_eq!(chain.readable.read(memory, u32::MAX, &mut bytes).unwrap(), 0);
    assert_eq!(chain.writable.write(memory, 1, b"12345").unwrap(), 4);
    assert_eq!((driver.bytes(0xf_ffff, 1), driver.bytes(0x20_0000, 3)), (b"1".to_vec(), b"234".to_vec()));
    let slices = chain.writable.slices(memory, 1..4).unwrap();
    assert_eq!(slices.iter().map(|slice| slice.len()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(queue.take().unwrap(), None);
}

#[test]
fn chains_that_do_not_end_or_begin_are_refused() {
    let (mut queue, mut driver) = rig();
    let broken = "does not end, or has no beginning";
    let desc = |flags, next| Desc { addr: BUFFERS, len: 1, flags, next };
    // A loop.
    driver.describe_own(0, desc(NEXT, 1));
    driver.describe_own(1, desc(NEXT, 0));
    driver.offer(0);
    assert_eq!(problem(&mut queue), broken);
    // Out of the table.
    driver.describe_own(2, desc(NEXT, SIZE));
    driver.offer(2);
    assert_eq!(problem(&mut queue), broken);
    driver.offer(SIZE);
    assert_eq!(problem(&mut queue), broken);
    // Longer than 2^32 bytes.
    driver.describe_own(3, Desc { addr: 0, len: u32::MAX, flags: NEXT, next: 4 });
    driver.offer(3);
    assert_eq!(problem(&mut queue), "has a buffer outside of guest memory");
}

#[test]
fn indirect_tables_are_checked() {
    let (mut queue, mut driver) = rig();
    let broken = "does not end, or has no beginning";
    for (address, len) in
        [(0x7000, 0), (0x7000, 15), (0x18_0000, 16), (u64::MAX - 15, 16), (0x7000, u32::MAX - 15)]
    {
        driver.request(&[(address, len, INDIRECT)]);
        assert_eq!(problem(&mut queue), broken, "{address:#x}+{len:#x}");
    }
    // A table in a table.
    driver.indirect(0x7000, &[(0x7100, 16, INDIRECT)]);
    assert_eq!(problem(&mut queue), broken);
    // A loop in a table.
    driver.indirect(0x7000, &[(BUFFERS, 1, 0), (BUFFERS, 1, 0)]);
    driver.describe(0x7000, 1, Desc { addr: BUFFERS, len: 1, flags: NEXT, next: 0 });
    assert_eq!(problem(&mut queue), broken);
    // More buffers than anybody needs.
    let many = vec![(BUFFERS, 1, 0); 1025];
    driver.indirect(0x2_0000, &many);
    assert_eq!(problem(&mut queue), "has too many buffers");
    driver.indirect(0x2_0000, &many[1..]);
    assert_eq!(queue.take().unwrap().unwrap().readable.len(), 1024);
}

#[test]
fn buffers_lie_in_guest_memory_and_in_order() {
    let (mut queue, mut driver) = rig();
    for (address, len) in [(0x10_0000, 1), (0xf_ffff, 2), (u64::MAX, 1), (u64::MAX - 1, 4), (0x2f_ffff, 2)] {
        driver.request(&[(address, len, WRITE)]);
        assert_eq!(problem(&mut queue), "has a buffer outside of guest memory", "{address:#x}");
    }
    driver.request(&[(BUFFERS, 1, WRITE), (BUFFERS, 1, 0)]);
    assert_eq!(problem(&mut queue), "has a buffer to read behind one to write");
}

#[test]
fn an_index_that_jumps_breaks_the_ring() {
    let (mut queue, driver) = rig();
    driver.set_avail(SIZE);
    driver.set_avail(SIZE + 1);
    assert!(matches!(queue.take(), Err(Broken::Ring(_))));
    driver.set_avail(u16::MAX);
    assert!(matches!(queue.take(), Err(Broken::Ring(_))));
}

#[test]
fn indices_wrap() {
    let memory = ram();
    let mut driver = driver(&memory);
    let mut queue = queue(&memory);
    let most = 0x1_0000 + 2 * usize::from(SIZE);
    for n in 0..most {
        let head = driver.request(&[(BUFFERS, 4, WRITE)]);
        queue
            .serve(|chain, memory| Ok(chain.writable.write(memory, 0, &(n as u32).to_le_bytes())? as u32))
            .unwrap();
        assert_eq!(driver.answer(), Some((head.into(), 4)), "{n}");
    }
    assert_eq!(queue.indices(), (2 * SIZE, 2 * SIZE));
}

#[test]
fn nothing_is_begun_when_the_worker_is_to_rest() {
    let memory = ram();
    let mut driver = driver(&memory);
    let mut queue = queue(&memory);
    driver.request(&[(BUFFERS, 4, WRITE)]);
    driver.request(&[(BUFFERS, 4, WRITE)]);
    let stop = Arc::clone(&queue.stop_flag());
    let mut served = 0;
    queue
        .serve(|_, _| {
            served += 1;
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            Ok(0)
        })
        .unwrap();
    assert_eq!((served, queue.indices()), (1, (1, 1)));
    assert_eq!(memory.read_obj::<u16>(GuestAddress(0x1_6002)).unwrap(), 1);
}
