use snapshot_format::state::I8042State;

use super::*;
use crate::lifecycle::{Persist, Quiesced};

fn controller() -> (I8042, IrqLine) {
    let irq = IrqLine::new().unwrap();
    (I8042::new(irq.clone()), irq)
}

/// Edges raised since the last time.
fn edges(irq: &IrqLine) -> u64 {
    irq.eventfd().read().unwrap_or(0)
}

fn status(c: &mut I8042) -> u8 {
    let mut data = [0];
    c.read(COMMAND, &mut data);
    data[0]
}

fn data(c: &mut I8042) -> u8 {
    let mut data = [0];
    c.read(DATA, &mut data);
    data[0]
}

/// Reads until the output buffer is empty.
fn drain(c: &mut I8042) -> Vec<u8> {
    std::iter::from_fn(|| (status(c) & STATUS_OUTPUT_FULL != 0).then(|| data(c))).take(100).collect()
}

fn command(c: &mut I8042, bytes: &[u8]) {
    assert_eq!(c.write(COMMAND, &bytes[..1]), Effect::Continue);
    for byte in &bytes[1..] {
        assert_eq!(c.write(DATA, &[*byte]), Effect::Continue);
    }
}

fn keyboard(c: &mut I8042, byte: u8) -> Vec<u8> {
    assert_eq!(c.write(DATA, &[byte]), Effect::Continue);
    drain(c)
}

fn again(c: &I8042) -> (I8042, IrqLine) {
    let state = c.save(&Quiesced::in_test());
    let irq = IrqLine::new().unwrap();
    let restored = I8042::restore(state.clone(), irq.clone()).unwrap();
    assert_eq!(restored.save(&Quiesced::in_test()), state);
    (restored, irq)
}

#[test]
fn every_way_to_reset_resets() {
    assert_eq!(controller().0.write(COMMAND, &[0xfe]), Effect::Stop(StopReason::Reset));
    assert_eq!(controller().0.write(COMMAND, &[0xff]), Effect::Continue, "no line is pulsed");

    let (mut c, _) = controller();
    command(&mut c, &[0xd1, 0x03]);
    command(&mut c, &[0xd1]);
    assert_eq!(c.write(DATA, &[0x02]), Effect::Stop(StopReason::Reset));
}

/// The questions of Linux's drivers/input/serio/i8042.c in their order, each answered before it is waited for.
#[test]
fn linux_finds_a_keyboard_port_and_no_mouse() {
    let (mut c, irq) = controller();
    assert_eq!(drain(&mut c), [0; 0], "i8042_controller_check");
    command(&mut c, &[0xaa]);
    assert_eq!(drain(&mut c), [0x55], "i8042_controller_selftest");
    command(&mut c, &[0x20]);
    let control = drain(&mut c)[0];
    assert_eq!(control, 0x65);
    assert_ne!(status(&mut c) & STATUS_UNLOCKED, 0, "no warning of an active key lock");
    command(&mut c, &[0x60, control & !CONTROL_KEYBOARD_INTERRUPT | CONTROL_KEYBOARD_OFF]);

    // i8042_check_aux: the loop must give an answer from the auxiliary port, but not the right one.
    command(&mut c, &[0xd3, 0x5a]);
    assert_eq!(status(&mut c) & (STATUS_OUTPUT_FULL | STATUS_AUX), STATUS_OUTPUT_FULL | STATUS_AUX);
    assert_ne!(data(&mut c), 0x5a);
    command(&mut c, &[0xa9]);
    assert_eq!(drain(&mut c), [0x01], "neither 0 nor 0xfa nor 0xff: the port is not there");
    assert_eq!(status(&mut c) & STATUS_AUX, 0);

    command(&mut c, &[0x60, control]);
    assert_eq!(edges(&irq), 0, "the controller's own answers are polled for");
    command(&mut c, &[0xab]);
    assert_eq!(drain(&mut c), [0x00]);
}

/// The questions of Linux's drivers/input/keyboard/atkbd.c.
#[test]
fn linux_finds_an_at_keyboard() {
    let (mut c, irq) = controller();
    assert_eq!(keyboard(&mut c, 0xf2), [0xfa, 0xab, 0x41], "ATKBD_CMD_GETID, translated");
    assert_eq!(edges(&irq), 3, "each byte has its interrupt");
    assert_eq!(keyboard(&mut c, 0xf5), [0xfa], "ATKBD_CMD_RESET_DIS");
    for (with_argument, argument) in [(0xed, 0x07), (0xf3, 0x00)] {
        assert_eq!(keyboard(&mut c, with_argument), [0xfa]);
        assert_eq!(keyboard(&mut c, argument), [0xfa]);
    }
    assert_eq!(keyboard(&mut c, 0xf4), [0xfa], "ATKBD_CMD_ENABLE");
    assert_eq!(keyboard(&mut c, 0xff), [0xfa, 0xaa], "ATKBD_CMD_RESET_BAT");
    assert_eq!(keyboard(&mut c, 0xee), [0xee]);
    assert_eq!(keyboard(&mut c, 0xea), [0xfe], "what is not known is refused at once");
}

#[test]
fn the_keyboard_speaks_set_2_to_a_guest_that_does_not_want_translation() {
    let (mut c, _) = controller();
    command(&mut c, &[0x60, 0x25]);
    assert_eq!(keyboard(&mut c, 0xf2), [0xfa, 0xab, 0x83]);
    assert_eq!(keyboard(&mut c, 0xf0), [0xfa]);
    assert_eq!(keyboard(&mut c, 0x00), [0xfa, 0x02]);
    c.send_ctrl_alt_del().unwrap();
    assert_eq!(drain(&mut c), [0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14]);
    keyboard(&mut c, 0xf0);
    assert_eq!(keyboard(&mut c, 0x03), [0xfe], "there is no set 3");
    keyboard(&mut c, 0xf0);
    assert_eq!(keyboard(&mut c, 0x01), [0xfa]);
    c.send_ctrl_alt_del().unwrap();
    assert_eq!(drain(&mut c), [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]);
}

#[test]
fn ctrl_alt_del_is_typed_whole_or_not_at_all() {
    let (mut c, irq) = controller();
    c.send_ctrl_alt_del().unwrap();
    assert_eq!(edges(&irq), 1);
    assert_eq!(c.send_ctrl_alt_del(), Err(Error::KeyboardFull));
    assert_eq!(drain(&mut c), [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]);
    assert_eq!(edges(&irq), 7, "one for each byte that moved up");

    keyboard(&mut c, 0xf5);
    assert_eq!(c.send_ctrl_alt_del(), Err(Error::KeyboardOff));
    keyboard(&mut c, 0xf4);
    command(&mut c, &[0xad]);
    assert_eq!(c.send_ctrl_alt_del(), Err(Error::KeyboardOff));
    command(&mut c, &[0xae]);
    assert_eq!(c.send_ctrl_alt_del(), Ok(()));
}

#[test]
fn keys_wait_while_the_interface_is_off_and_answers_go_first() {
    let (mut c, irq) = controller();
    c.send_ctrl_alt_del().unwrap();
    command(&mut c, &[0xad]);
    assert_eq!(drain(&mut c), [0; 0]);
    assert_eq!(edges(&irq), 1);
    command(&mut c, &[0x20]);
    command(&mut c, &[0xae]);
    assert_eq!(edges(&irq), 0, "the answer is in the way");
    assert_eq!(data(&mut c), 0x65 | CONTROL_KEYBOARD_OFF);
    assert_eq!(edges(&irq), 1);
    assert_eq!(data(&mut c), 0x1d);
}

#[test]
fn a_guest_that_never_reads_costs_nothing() {
    let (mut c, _) = controller();
    for byte in (0..=0xff).cycle().take(10_000) {
        c.write(DATA, &[byte]);
        command(&mut c, &[0xd2, byte]);
        command(&mut c, &[0x20]);
    }
    assert!(drain(&mut c).len() < 16, "i8042_flush gives up at 16");
}

#[test]
fn wide_accesses_touch_the_two_ports_and_nothing_between() {
    let (mut c, _) = controller();
    let mut wide = [0xff; 4];
    c.read(1, &mut wide);
    assert_eq!(wide, [0xff, 0xff, 0xff, STATUS_UNLOCKED | CONTROL_SYSTEM]);
    assert_eq!(c.write(1, &[0xfe, 0xfe, 0xfe, 0xaa]), Effect::Continue);
    assert_eq!(drain(&mut c), [0x55]);
    assert_eq!(data(&mut c), 0);
}

#[test]
fn a_restore_in_the_middle_of_commands_goes_on_there() {
    let (mut c, _) = controller();
    command(&mut c, &[0x60]);
    let (mut c, _) = again(&c);
    c.write(DATA, &[0x47]);
    command(&mut c, &[0x20]);
    let (mut c, _) = again(&c);
    assert_ne!(status(&mut c) & STATUS_COMMAND, 0);
    assert_eq!(drain(&mut c), [0x65], "0x47 without what belongs to a mouse");

    c.write(DATA, &[0xf0]);
    let (mut c, _) = again(&c);
    assert_eq!(drain(&mut c), [0xfa]);
    assert_eq!(keyboard(&mut c, 0x00), [0xfa, 0x41]);

    command(&mut c, &[0xd4, 0xf2]);
    let (mut c, _) = again(&c);
    assert_eq!(status(&mut c) & 0xe0, STATUS_AUX | STATUS_TIMEOUT);
    assert_eq!(drain(&mut c), [0xfe]);

    keyboard(&mut c, 0xf5);
    let (mut c, _) = again(&c);
    assert_eq!(c.send_ctrl_alt_del(), Err(Error::KeyboardOff));
}

#[test]
fn a_key_that_waits_interrupts_again_after_a_restore_but_not_before_it_may() {
    let (mut c, _) = controller();
    c.send_ctrl_alt_del().unwrap();
    data(&mut c);
    let (mut c, irq) = again(&c);
    assert_eq!(edges(&irq), 0);
    c.raise_pending();
    assert_eq!(edges(&irq), 1);
    assert_eq!(drain(&mut c).len(), 7);
    assert_eq!(edges(&irq), 6);
    c.raise_pending();
    assert_eq!(edges(&irq), 0, "nothing waits");
}

#[test]
fn hostile_states_are_refused() {
    let good = controller().0.save(&Quiesced::in_test());
    let irq = IrqLine::new().unwrap();
    let refusal = |state| I8042::restore(state, irq.clone()).err();

    assert_eq!(
        refusal(I8042State { output: vec![0; 15], ..good.clone() }),
        Some(Error::QueueOverrun { len: 15 })
    );
    assert_eq!(
        refusal(I8042State { output: vec![0; 16], answer_first: true, ..good.clone() }),
        Some(Error::QueueOverrun { len: 16 })
    );
    let bad = [
        ("command byte", I8042State { control: 0x45, ..good.clone() }),
        ("command byte", I8042State { control: 0x67, ..good.clone() }),
        ("output port", I8042State { output_port: 0, ..good.clone() }),
        ("pending command", I8042State { pending_command: 0xaa, ..good.clone() }),
        ("pending keyboard command", I8042State { pending_keyboard_command: 0xf2, ..good.clone() }),
        ("scan-code set", I8042State { keyboard_scan_set: 3, ..good.clone() }),
        ("answer flag", I8042State { answer_first: true, ..good.clone() }),
        ("status", I8042State { status: good.status | STATUS_OUTPUT_FULL, ..good.clone() }),
        ("status", I8042State { status: good.status | STATUS_AUX, ..good.clone() }),
        ("status", I8042State { status: good.status & !CONTROL_SYSTEM, ..good.clone() }),
    ];
    for (expected, state) in bad {
        match refusal(state) {
            Some(Error::Impossible { field, value: _ }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert_eq!(refusal(good), None);
}
