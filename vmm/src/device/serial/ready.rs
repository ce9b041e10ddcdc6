//! Readiness by pattern: watches the guest's console for a regular expression.

use regex::bytes::Regex;

use super::ConsoleTap;
use crate::lifecycle::{Effect, StopReason};

/// How much of a long line is kept, in bytes, when it has grown to twice that. Every byte costs a search of the line so
/// far, so this bounds what a guest that never ends its line costs: about a microsecond a byte, less than the byte's
/// own exit.
const WINDOW: usize = 1024;

/// Stops the guest, once, as soon as `pattern` matches the line that it is writing.
///
/// Tried after every byte against the current line from its start, so a prompt without a newline is seen as soon as it
/// is complete. `^` is the start of the line; `$` is the end of what has come *so far*. A line's `\n` is part of it.
/// Of a very long line the last 1 to 2 KiB are searched.
pub struct ReadyPattern {
    // Configuration. None once it has matched.
    pattern: Option<Regex>,
    // What has been seen: the current line, or a byte that stands for its beginning and its last part.
    line: Vec<u8>,
    cut: bool,
}

impl ReadyPattern {
    /// Watches for `pattern`.
    pub fn new(pattern: Regex) -> Self {
        Self { pattern: Some(pattern), line: Vec::new(), cut: false }
    }
}

impl ConsoleTap for ReadyPattern {
    fn saw(&mut self, byte: u8) -> Effect {
        let Some(pattern) = &self.pattern else { return Effect::Continue };
        self.line.push(byte);
        if self.line.len() > 2 * WINDOW {
            // One byte before the window stays, so that `^` and `\b` still see that the line did not begin there.
            self.line.drain(..self.line.len() - WINDOW - 1);
            self.cut = true;
        }
        if pattern.is_match_at(&self.line, usize::from(self.cut)) {
            self.pattern = None;
            self.line = Vec::new();
            return Effect::Stop(StopReason::Ready);
        }
        if byte == b'\n' {
            self.line.clear();
            self.cut = false;
        }
        Effect::Continue
    }
}
