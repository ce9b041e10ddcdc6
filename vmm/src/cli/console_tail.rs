//! The last lines of a guest's console, for the message of a guest that was to become ready and did not.
//!
//! Owns nothing of readiness itself: it passes every byte on to the pattern that waits for it, if there is one.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use vmm::device::serial::ConsoleTap;
use vmm::lifecycle::Effect;

use super::exit::printable;

/// The most bytes that are kept. A guest that writes without end costs no more.
const MAX_KEPT: usize = 4096;
/// The most lines that are shown.
const MAX_SHOWN: usize = 10;

/// What a guest has written last. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct ConsoleTail(Arc<Mutex<Vec<u8>>>);

impl ConsoleTail {
    /// Keeps what the guest writes, on its way to `next`.
    pub(super) fn watch(&self, mut next: Option<Box<dyn ConsoleTap>>) -> Box<dyn ConsoleTap> {
        let tail = self.clone();
        Box::new(move |byte| {
            tail.keep(byte);
            next.as_mut().map_or(Effect::Continue, |next| next.saw(byte))
        })
    }

    fn keep(&self, byte: u8) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == 2 * MAX_KEPT {
            kept.drain(..MAX_KEPT);
        }
        kept.push(byte);
    }

    /// The last lines, indented, each ended; empty if the guest has written nothing.
    pub(super) fn lines(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept[kept.len().saturating_sub(MAX_KEPT)..]).replace('\r', "");
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let shown = &lines[lines.len().saturating_sub(MAX_SHOWN)..];
        shown.iter().map(|line| format!("  | {}\n", printable(line))).collect()
    }

    /// Shows the last lines on stderr, or says that there are none.
    pub(super) fn show(&self) {
        let lines = self.lines();
        let text = if lines.is_empty() {
            "rekindle: the guest has written nothing to its console\n".to_owned()
        } else {
            format!("rekindle: the last lines of the guest's console:\n{lines}")
        };
        // A terminal that has gone is no reason to fail in another way.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}
