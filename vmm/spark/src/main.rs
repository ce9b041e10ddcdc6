//! Spark, the built-in guest: a bare-metal program that fills memory, says that it is ready, and then does what the
//! console asks.
//!
//! Owns the order of start-up and the idle loop. It knows nothing of the VMM beyond what `README.md` lists: the boot
//! protocol, a few ports, the interrupt controllers and kvmclock. All of it runs at CPL 3 but for the handful of
//! instructions in `cpu.s`.

#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]

mod apic;
mod boot;
mod clock;
mod command;
mod console;
mod drive;
mod exercise;
mod fault;
mod memory;
mod paging;
mod pattern;
mod port;
mod power;
mod runtime;
mod simd;
mod text;
mod timer;
mod trap;
mod virtio;

use console::Console;
use exercise::bench::Samples;
use exercise::disk::Record;
use memory::Memory;
use simd::Vectors;
use text::Text;
use timer::Timer;

/// Everything that a command may work on.
struct Spark {
    console: Console,
    memory: Memory,
    timer: Timer,
    vectors: Vectors,
    /// What the disk must hold.
    record: &'static mut Record,
    samples: &'static mut Samples,
}

/// Too large for the stack.
static mut RECORD: Record = Record::new();
static mut SAMPLES: Samples = Samples::new();

/// Where `cpu.s` enters CPL 3; `boot_params` is the address of the zero page.
#[unsafe(no_mangle)]
extern "C" fn spark_main(boot_params: u64) -> ! {
    // Before anything else, so that the time to the first byte is the time to get here.
    let console = Console::greet();
    let map = boot::ram(boot_params);
    console.line(Text::new().str("park: up, ").size(map.total()));

    let mut spark = Spark {
        console,
        memory: Memory::new(paging::map(&map), map),
        timer: Timer::default(),
        vectors: Vectors::default(),
        // SAFETY: nobody else names it, and this function is entered once.
        record: unsafe { &mut *(&raw mut RECORD) },
        // SAFETY: as above.
        samples: unsafe { &mut *(&raw mut SAMPLES) },
    };
    let options = boot::options(boot_params);
    trap::set_up_platform();
    apic::set_up();
    console.listen();

    if options.fill > 0 {
        let mut said = Text::new();
        said.str("spark: ");
        match spark.memory.fill(options.fill, options.seed, 0) {
            Ok(()) => said.str("filled ").size(spark.memory.filled()).str(" seed ").dec(options.seed),
            Err(why) => said.str(why),
        };
        console.line(&said);
    }
    port::write8(port::READY, 1);
    console.line(Text::new().str("spark: ready"));
    loop {
        command::serve(&mut spark);
    }
}
