//! kvmclock: `struct pvclock_vcpu_time_info` and `struct pvclock_wall_clock` of the Linux kernel, as KVM fills them in.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::trap;

/// Aligned so that it does not cross a page, which KVM refuses.
#[repr(C, align(32))]
struct SystemTime {
    /// Odd while the host writes.
    version: AtomicU32,
    pad: AtomicU32,
    tsc_timestamp: AtomicU64,
    system_time: AtomicU64,
    tsc_to_system_mul: AtomicU32,
    /// The signed shift in the lowest byte, then the flags.
    shift_and_flags: AtomicU32,
}

#[repr(C, align(16))]
struct WallClock {
    version: AtomicU32,
    sec: AtomicU32,
    nsec: AtomicU32,
}

#[unsafe(no_mangle)]
static SYSTEM_TIME: SystemTime = SystemTime {
    version: AtomicU32::new(0),
    pad: AtomicU32::new(0),
    tsc_timestamp: AtomicU64::new(0),
    system_time: AtomicU64::new(0),
    tsc_to_system_mul: AtomicU32::new(0),
    shift_and_flags: AtomicU32::new(0),
};

#[unsafe(no_mangle)]
static WALL_CLOCK: WallClock =
    WallClock { version: AtomicU32::new(0), sec: AtomicU32::new(0), nsec: AtomicU32::new(0) };

/// One reading of all clocks.
pub struct Reading {
    pub tsc: u64,
    /// kvmclock in ns; `None` where there is none.
    pub kvmclock: Option<u64>,
}

/// Reads the TSC, and kvmclock at that TSC.
pub fn read() -> Reading {
    let time = &SYSTEM_TIME;
    loop {
        let version = time.version.load(Ordering::SeqCst);
        let tsc = trap::tsc();
        if !trap::has_kvmclock() {
            return Reading { tsc, kvmclock: None };
        }
        let elapsed = tsc.saturating_sub(time.tsc_timestamp.load(Ordering::SeqCst));
        let shift = time.shift_and_flags.load(Ordering::SeqCst) as i8;
        let scaled = if shift < 0 { elapsed >> (-shift & 63) } else { elapsed << (shift & 63) };
        let mul = time.tsc_to_system_mul.load(Ordering::SeqCst);
        let ns = ((scaled as u128 * mul as u128) >> 32) as u64;
        let now = time.system_time.load(Ordering::SeqCst).wrapping_add(ns);
        fence(Ordering::SeqCst);
        if version & 1 == 0 && version == time.version.load(Ordering::SeqCst) {
            return Reading { tsc, kvmclock: Some(now) };
        }
    }
}

/// kvmclock in ns.
pub fn now() -> Result<u64, &'static str> {
    read().kvmclock.ok_or("no kvmclock")
}

/// The time of day at `kvmclock`, as seconds and ns since 1970: the host's time when kvmclock was 0, and what it has
/// counted since.
pub fn wall(kvmclock: u64) -> (u64, u64) {
    let ns = WALL_CLOCK.nsec.load(Ordering::SeqCst) as u64 + kvmclock;
    (WALL_CLOCK.sec.load(Ordering::SeqCst) as u64 + ns / 1_000_000_000, ns % 1_000_000_000)
}
