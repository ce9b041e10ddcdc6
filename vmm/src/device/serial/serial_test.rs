use std::sync::Mutex;

use snapshot_format::state::SerialState;

use super::console::Sink;
use super::*;
use crate::lifecycle::{Persist, Quiesced};

const DATA: u64 = 0;
const IER: u64 = 1;
const IIR: u64 = 2;
const LSR: u64 = 5;
const RECEIVED: u8 = 1;
const EMPTIED: u8 = 2;

/// Takes everything.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Sink for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn wait(&mut self, _timeout: Duration) -> std::io::Result<bool> {
        Ok(true)
    }
}

/// The host's side of a UART's connections.
struct Host {
    irq: IrqLine,
    drained: Arc<EventFd>,
    out: Memory,
}

impl Host {
    fn new() -> (Self, Wiring) {
        let irq = IrqLine::new().unwrap();
        let drained = Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap());
        let out = Memory::default();
        let console = ConsoleOut::over(Some(Box::new(out.clone())), Arc::default());
        let wiring = Wiring { irq: irq.clone(), out: console, drained: drained.clone() };
        (Self { irq, drained, out }, wiring)
    }

    fn edges(&self) -> u64 {
        self.irq.eventfd().read().unwrap_or(0)
    }

    fn was_told(&self) -> bool {
        self.drained.read().is_ok()
    }
}

fn uart() -> (Serial, Host) {
    let (host, wiring) = Host::new();
    (Serial::new(wiring), host)
}

fn again(uart: &Serial) -> (Serial, Host) {
    let state = uart.save(&Quiesced::in_test());
    let (host, wiring) = Host::new();
    let restored = Serial::restore(state.clone(), wiring).unwrap();
    assert_eq!(restored.save(&Quiesced::in_test()), state);
    (restored, host)
}

fn get(uart: &mut Serial, offset: u64) -> u8 {
    let mut data = [0xff];
    uart.read(offset, &mut data);
    data[0]
}

fn drain(uart: &mut Serial) -> Vec<u8> {
    std::iter::from_fn(|| (get(uart, LSR) & 1 != 0).then(|| get(uart, DATA))).take(100).collect()
}

#[test]
fn output_is_what_the_guest_wrote() {
    let (mut uart, host) = uart();
    let all: Vec<u8> = (0..=255).collect();
    for byte in &all {
        assert_eq!(uart.write(DATA, &[*byte]), Effect::Continue);
    }
    assert_eq!(*host.out.0.lock().unwrap(), all);
    assert_eq!(host.edges(), 0, "nobody asked for interrupts");
}

#[test]
fn a_wide_access_is_one_to_each_port() {
    let (mut uart, host) = uart();
    uart.write(DATA, &[b'x', RECEIVED | EMPTIED]);
    assert_eq!(*host.out.0.lock().unwrap(), b"x");
    let mut wide = [0; 2];
    uart.read(IER, &mut wide);
    assert_eq!(wide, [RECEIVED | EMPTIED, 0xc2]);
}

#[test]
fn input_is_taken_as_far_as_it_fits_and_the_owner_is_told_of_room() {
    let (mut uart, host) = uart();
    uart.write(IER, &[RECEIVED]);
    assert_eq!(uart.receive(&[]), 0);
    assert_eq!(uart.room(), FIFO);
    assert_eq!(uart.receive(&[7; 60]), 60);
    assert_eq!(uart.receive(b"abcdefgh"), 4);
    assert_eq!(host.edges(), 1, "one interrupt until the guest acknowledges it");
    assert_eq!(uart.room(), 0);
    assert!(!host.was_told());
    let read = drain(&mut uart);
    assert_eq!(read[60..], *b"abcd");
    assert!(host.was_told());
    assert_eq!(uart.receive(b"efgh"), 4);
    assert_eq!(drain(&mut uart), b"efgh");
    assert!(!host.was_told(), "nobody waits for room now");
}

#[test]
fn input_waits_outside_while_the_guest_tests_the_loop() {
    let (mut uart, host) = uart();
    uart.write(MCR, &[MCR_LOOP]);
    assert_eq!(uart.room(), 0);
    assert_eq!(uart.receive(b"typed"), 0);
    uart.write(DATA, b"L");
    assert_eq!(get(&mut uart, DATA), b'L', "the guest hears itself and nobody else does");
    assert!(host.out.0.lock().unwrap().is_empty());
    host.was_told();
    assert_eq!(uart.room(), 0);
    uart.write(MCR, &[0x0b]);
    assert!(host.was_told());
    assert_eq!(uart.receive(b"typed"), 5);
    assert_eq!(drain(&mut uart), b"typed");
}

#[test]
fn a_fifo_partly_full_is_restored_and_its_interrupt_is_not_lost() {
    let (mut uart, before) = uart();
    uart.write(IER, &[RECEIVED]);
    assert_eq!(uart.receive(b"hello"), 5);
    assert_eq!(before.edges(), 1);
    assert_eq!(get(&mut uart, DATA), b'h');
    assert_eq!(uart.receive(b"!"), 1);

    let (mut uart, host) = again(&uart);
    assert_eq!(host.edges(), 0, "the chipset's state is not there yet");
    assert_eq!(uart.receive(b"?"), 1);
    assert_eq!(host.edges(), 0);
    uart.raise_pending();
    assert_eq!(host.edges(), 1);
    assert_eq!(get(&mut uart, IIR), 0xc4);
    assert_eq!(drain(&mut uart), b"ello!?");
    assert_eq!(get(&mut uart, IIR), 0xc1);
}

#[test]
fn an_acknowledged_interrupt_is_not_repeated_by_a_restore() {
    let (mut uart, _) = uart();
    uart.write(IER, &[RECEIVED]);
    assert_eq!(uart.receive(b"a"), 1);
    assert_eq!(get(&mut uart, IIR), 0xc4);
    let (mut uart, host) = again(&uart);
    uart.raise_pending();
    assert_eq!(host.edges(), 0);
    assert_eq!(uart.receive(b"b"), 1);
    assert_eq!(host.edges(), 1, "the next one comes");
}

#[test]
fn a_condition_that_is_identified_but_disabled_is_raised_again() {
    let (mut uart, _) = uart();
    uart.write(IER, &[EMPTIED]);
    uart.write(IER, &[0]);
    let (mut uart, host) = again(&uart);
    uart.raise_pending();
    assert_eq!(host.edges(), 1, "enabling it would raise nothing, so the edge must not depend on that");
}

#[test]
fn a_full_fifo_and_the_divisor_latch_are_restored() {
    let (mut uart, _) = uart();
    uart.write(3, &[0x83]);
    uart.write(DATA, &[0x01, 0x00]);
    assert_eq!(uart.receive(&[9; FIFO]), FIFO);
    let (mut uart, host) = again(&uart);
    assert_eq!(uart.room(), 0);
    assert_eq!(get(&mut uart, DATA), 0x01, "the latch, not the FIFO");
    uart.write(3, &[0x03]);
    assert_eq!(drain(&mut uart), [9; FIFO]);
    assert!(host.was_told());
}

#[test]
fn a_tap_s_wish_reaches_the_vcpu_with_the_byte_that_caused_it() {
    let (host, wiring) = Host::new();
    let pattern = ReadyPattern::new(regex::bytes::Regex::new("login: ").unwrap());
    let mut uart = Serial::new(Wiring { out: wiring.out.with_tap(Box::new(pattern)), ..wiring });
    let effects: Vec<Effect> = b"login: login: ".iter().map(|&b| uart.write(DATA, &[b])).collect();
    let stop = Effect::Stop(crate::lifecycle::StopReason::Ready);
    assert_eq!(effects.iter().position(|&e| e == stop), Some(6));
    assert_eq!(effects.iter().filter(|&&e| e == stop).count(), 1);
    assert_eq!(*host.out.0.lock().unwrap(), b"login: login: ", "what was seen was also written");
}

#[test]
fn hostile_states_are_refused() {
    let (mut uart, _) = uart();
    assert_eq!(uart.receive(b"x"), 1);
    let good = uart.save(&Quiesced::in_test());
    let refusal = |state| Serial::restore(state, Host::new().1).err();
    assert!(refusal(good.clone()).is_none());

    let long = SerialState { in_buffer: vec![0; FIFO + 1], ..good.clone() };
    assert!(matches!(refusal(long), Some(Error::FifoOverrun { len: 65 })));
    let bad = [
        ("IER", SerialState { interrupt_enable: 0x10, ..good.clone() }),
        ("IIR", SerialState { interrupt_identification: 0, ..good.clone() }),
        ("IIR", SerialState { interrupt_identification: 5, ..good.clone() }),
        ("IIR", SerialState { interrupt_identification: 0xc1, ..good.clone() }),
        ("LSR", SerialState { line_status: 0x60, ..good.clone() }),
        ("LSR", SerialState { in_buffer: Vec::new(), ..good.clone() }),
        ("LSR", SerialState { line_status: 0, ..good.clone() }),
        ("MSR", SerialState { modem_status: 0, ..good.clone() }),
    ];
    for (expected, state) in bad {
        match refusal(state) {
            Some(Error::ImpossibleRegister { register, value: _ }) => assert_eq!(register, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}
