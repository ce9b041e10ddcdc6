//! Huge pages of 2 MiB that are there for as long as a test needs them.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many the system keeps, for everybody.
const RESERVED: &str = "/proc/sys/vm/nr_hugepages";

/// One test at a time changes the number.
static ONE: Mutex<()> = Mutex::new(());

/// So many more than there were. Dropped, they are given back.
pub struct HugePages {
    before: u64,
    _one: MutexGuard<'static, ()>,
}

impl HugePages {
    /// `None` if the system does not let us, or has no memory in such pieces.
    pub fn reserve(pages: u64) -> Option<Self> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = reserved()?;
        let here = Self { before, _one: one };
        fs::write(RESERVED, (before + pages).to_string()).ok()?;
        (reserved()? >= before + pages).then_some(here)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // Fails only where reserving them has failed.
        let _ = fs::write(RESERVED, self.before.to_string());
    }
}

fn reserved() -> Option<u64> {
    fs::read_to_string(RESERVED).ok()?.trim().parse().ok()
}
