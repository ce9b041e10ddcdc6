//! The configuration that Bochs and its boot loader are given.

use super::*;

#[test]
fn the_ports_are_the_ones_that_the_lab_is_told_of() {
    let machine = Machine { kernel: "k".into(), initrd: "i".into(), memory_mib: MEMORY_MIB };
    let text = machine.configuration();
    // The lab's /dev/ttySn is the machine's port n + 1.
    for (line, device) in ports().lines().zip(2..) {
        let (name, tty) = line.split_once(' ').unwrap();
        assert_eq!(tty, format!("/dev/ttyS{}", device - 1));
        assert!(text.contains(&format!("com{device}: enabled=1, mode=file, dev={name}\n")), "{text}");
    }
    assert!(text.contains("com1: enabled=1, mode=file, dev=console.log\n"));
    assert!(text.contains("memory: guest=1536, host=1536\n"));
}

#[test]
fn the_kernel_is_told_the_speed_of_the_tsc() {
    assert!(text_of_append().contains("tsc_early_khz=50000 "));
}

fn text_of_append() -> String {
    loader_configuration().lines().find(|line| line.starts_with(" append ")).unwrap().to_owned()
}
