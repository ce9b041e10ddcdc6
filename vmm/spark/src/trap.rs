//! CPL 3's side of `cpu.s`: the events that interrupts raise, and the services of CPL 0.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU8, Ordering};

global_asm!(include_str!("cpu.s"));

/// The interrupt vectors that the stubs of `cpu.s` give to the devices.
pub const UART_VECTOR: u8 = 0x30;
pub const TIMER_VECTOR: u8 = 0x31;
/// The first of as many as there are [`VIRTIO_EVENTS`].
pub const VIRTIO_VECTOR: u8 = 0x32;
pub const SPURIOUS_VECTOR: u8 = 0x3f;

/// The numbers of the services, the index into `SERVICES` of `cpu.s`.
const WAIT: u64 = 0;
const TSC: u64 = 1;
const PLATFORM: u64 = 2;
const DROP_IDT: u64 = 3;

/// Set to 1 by an interrupt handler.
#[repr(transparent)]
pub struct Event(AtomicU8);

impl Event {
    const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    pub fn clear(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// For what an interrupt has told of and that was not all dealt with.
    pub fn set(&self) {
        self.0.store(1, Ordering::SeqCst);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    /// Sleeps until the event is set or any interrupt has come.
    pub fn wait(&self) {
        // SAFETY: the service reads the byte at RDI, which `self` keeps alive, and changes no register. The handlers
        // that run meanwhile write the events only, which are atomics.
        unsafe { asm!("int3", in("rax") WAIT, in("rdi") self) }
    }
}

/// The UART has received something.
#[unsafe(no_mangle)]
pub static UART_EVENT: Event = Event::new();
/// The LAPIC timer has expired.
#[unsafe(no_mangle)]
pub static TIMER_EVENT: Event = Event::new();
/// The virtio device in that slot has interrupted.
#[unsafe(no_mangle)]
pub static VIRTIO_EVENTS: [Event; 8] = [const { Event::new() }; 8];
/// Any interrupt has come: for whoever waits for several things.
#[unsafe(no_mangle)]
pub static ANY_EVENT: Event = Event::new();

#[unsafe(no_mangle)]
static HAS_AVX: AtomicU8 = AtomicU8::new(0);
#[unsafe(no_mangle)]
static HAS_KVMCLOCK: AtomicU8 = AtomicU8::new(0);

/// Looks at CPUID, switches on AVX, and has KVM publish kvmclock.
pub fn set_up_platform() {
    // SAFETY: the service changes the registers named here and writes HAS_*; KVM then writes the two structures of
    // `clock`, which are made of atomics and live for ever.
    unsafe { asm!("int3", inout("rax") PLATFORM => _, out("rcx") _, out("rdx") _) }
}

/// AVX is there and on. False before [`set_up_platform`].
///
/// XCR0 is read back, because what was written to it may be lost: SVM as QEMU 7.2 emulates it does not tell a KVM inside
/// of it that its guest executed XSETBV, and that KVM puts the old value back at the next exit.
pub fn has_avx() -> bool {
    const SSE_AND_AVX: u32 = 6;
    if HAS_AVX.load(Ordering::Relaxed) == 0 {
        return false;
    }
    let xcr0: u32;
    // SAFETY: whoever set HAS_AVX had set CR4.OSXSAVE, which XGETBV needs; it changes the two registers named here.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") xcr0, out("edx") _, options(nomem, nostack, preserves_flags))
    }
    xcr0 & SSE_AND_AVX == SSE_AND_AVX
}

/// KVM publishes kvmclock. False before [`set_up_platform`].
pub fn has_kvmclock() -> bool {
    HAS_KVMCLOCK.load(Ordering::Relaxed) != 0
}

/// The guest's TSC. Read at CPL 0, because under PVM an RDTSC at CPL 3 is the host's and knows of no offset.
pub fn tsc() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: the service changes the two registers named here and nothing else.
    unsafe { asm!("int3", inout("rax") TSC => low, out("rdx") high) }
    high << 32 | low
}

/// The host's TSC, which costs nothing to read: for differences only, and only while no snapshot is taken.
pub fn host_tsc() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: RDTSC changes the two registers named here.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack, preserves_flags)) }
    high << 32 | low
}

/// Takes the IDT away and raises an exception.
pub fn triple_fault() {
    // SAFETY: the machine stops here, or goes on with no change but the lost IDT.
    unsafe { asm!("int3", "int3", in("rax") DROP_IDT) }
}
