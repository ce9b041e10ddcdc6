//! How long is waited for anything: stated for a host with nothing else to do, stretched where time runs slower.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A factor for all deadlines.
const SCALE: &str = "REKINDLE_TIME_SCALE";
/// Set where the tests run in the lab, whose software emulation is slower by an order of magnitude.
const LAB: &str = "REKINDLE_LAB";
const LAB_SCALE: u32 = 10;

/// What nearly everything gets: an answer from a guest, an end of a process.
pub const SOON: Duration = Duration::from_secs(20);

/// Whether this is the lab.
pub fn in_lab() -> bool {
    std::env::var_os(LAB).is_some()
}

/// `time` as long as it takes here.
pub fn scaled(time: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = *FACTOR.get_or_init(|| match std::env::var(SCALE) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{SCALE}={text} is not a whole number")),
        Err(_) if in_lab() => LAB_SCALE,
        Err(_) => 1,
    });
    time * factor
}

/// Looks every few milliseconds until `done` gives something; `None` if it does not within `within`, which is scaled.
pub fn until<T>(within: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + scaled(within);
    loop {
        if let Some(found) = done() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
