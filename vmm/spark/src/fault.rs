//! What nobody expected: exceptions, and Rust's own panics. Both are printed, and reset the machine.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::console::Console;
use crate::power;
use crate::text::Text;

/// Vector, RIP and CR2, as `cpu.s` found them.
#[unsafe(no_mangle)]
static FAULT: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Where nothing is mapped: the last page of the lower half.
const UNMAPPED: u64 = 0x7fff_ffff_f000;

/// Reads an address that is not mapped.
pub fn provoke() {
    crate::memory::read_volatile::<u64>(UNMAPPED);
}

/// Where `cpu.s` continues at CPL 3, on a fresh stack, after the first exception.
#[unsafe(no_mangle)]
extern "C" fn spark_fault() -> ! {
    let [vector, rip, address] = &FAULT;
    give_up(
        Text::new()
            .str("spark: fault ")
            .dec(vector.load(Ordering::Relaxed))
            .str(" at ")
            .hex(rip.load(Ordering::Relaxed))
            .str(" address ")
            .hex(address.load(Ordering::Relaxed)),
    )
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    let mut text = Text::new();
    text.str("spark: panic");
    if let Some(place) = info.location() {
        text.str(" at ").str(place.file()).str(" line ").dec(place.line() as u64);
    }
    give_up(&text)
}

fn give_up(text: &Text) -> ! {
    Console::in_trouble().line(text);
    loop {
        power::reset();
    }
}
