//! A driver that says anything, in any order, over any rings and memory: no panic, and what must hold of a device holds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmm::device::virtio::testing::drive;

fuzz_target!(|program: &[u8]| drive(program));
