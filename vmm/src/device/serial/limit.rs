//! Limits of a console that is a file: how much it holds at most, and how much it grows in a second. What is beyond a
//! limit is dropped, and the file says so: a guest must not be able to fill the host's disk, nor be stopped by that.

use std::io;
use std::time::{Duration, Instant};

use super::console::Sink;

/// What is written in place of all that comes after the file is full.
pub(super) const FULL: &[u8] = b"\n[rekindle: the console file is full; nothing more is written]\n";
/// The room that the note of what was dropped needs.
const LONGEST_NOTE: u64 = 80;

/// What a console may write. The default is all that the guest says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsoleLimits {
    /// Bytes in all, notes included.
    pub size: Option<u64>,
    /// Bytes in a second, and as many at once.
    pub rate: Option<u64>,
}

/// A destination with limits.
pub(super) struct Limited {
    sink: Box<dyn Sink>,
    limits: ConsoleLimits,
    written: u64,
    is_full: bool,
    /// Bytes that may be written now.
    tokens: u64,
    seen: Option<Instant>,
    /// Bytes that were dropped for the rate since the last note.
    dropped: u64,
    was_dropped: bool,
}

impl Limited {
    pub(super) fn new(sink: Box<dyn Sink>, limits: ConsoleLimits) -> Self {
        let tokens = limits.rate.unwrap_or(u64::MAX);
        Self { sink, limits, written: 0, is_full: false, tokens, seen: None, dropped: 0, was_dropped: false }
    }

    /// As [`Sink::write`], at `now`. Takes what it drops.
    pub(super) fn write_at(&mut self, bytes: &[u8], now: Instant) -> io::Result<usize> {
        self.refill(now);
        if self.is_full {
            return Ok(bytes.len());
        }
        if self.tokens == 0 {
            self.drop_some(bytes.len());
            return Ok(bytes.len());
        }
        if self.dropped > 0 && !self.note_dropped()? {
            return Ok(bytes.len());
        }
        let allowed = usize::try_from(self.tokens.min(self.left())).unwrap_or(usize::MAX).min(bytes.len());
        if allowed == 0 {
            self.fill()?;
            return Ok(bytes.len());
        }
        let written = self.sink.write(&bytes[..allowed])?;
        self.count(written);
        Ok(written)
    }

    /// Room for what the guest says, with the last note behind it.
    fn left(&self) -> u64 {
        let size = self.limits.size.unwrap_or(u64::MAX);
        size.saturating_sub(self.written).saturating_sub(FULL.len() as u64)
    }

    fn refill(&mut self, now: Instant) {
        let Some(rate) = self.limits.rate else { return };
        let seen = *self.seen.get_or_insert(now);
        let passed = now.saturating_duration_since(seen).min(Duration::from_secs(1));
        let gained = u64::try_from(u128::from(rate) * passed.as_nanos() / 1_000_000_000).unwrap_or(rate);
        // Less than a byte's time stays on the clock.
        if gained > 0 {
            self.tokens = self.tokens.saturating_add(gained).min(rate);
            self.seen = Some(now);
        }
    }

    fn count(&mut self, written: usize) {
        self.written = self.written.saturating_add(written as u64);
        if self.limits.rate.is_some() {
            self.tokens = self.tokens.saturating_sub(written as u64);
        }
    }

    fn drop_some(&mut self, bytes: usize) {
        if !std::mem::replace(&mut self.was_dropped, true) {
            tracing::warn!(
                "the guest says more than its console's rate allows; what is beyond that is dropped"
            );
        }
        self.dropped = self.dropped.saturating_add(bytes as u64);
    }

    /// Says how much was dropped. False if the file is full by that.
    fn note_dropped(&mut self) -> io::Result<bool> {
        if self.left() < LONGEST_NOTE {
            self.fill()?;
            return Ok(false);
        }
        let note = format!("\n[rekindle: {} bytes of console output are dropped here]\n", self.dropped);
        let written = self.sink.write(note.as_bytes())?;
        self.written = self.written.saturating_add(written as u64);
        self.dropped = 0;
        Ok(true)
    }

    /// The file is full, and says so if there is room for that.
    fn fill(&mut self) -> io::Result<()> {
        self.is_full = true;
        tracing::warn!(
            bytes = self.written,
            "the console's file is full; what the guest says from here on is dropped"
        );
        if self.left() > 0 || self.limits.size.unwrap_or(0).saturating_sub(self.written) >= FULL.len() as u64
        {
            self.sink.write(FULL)?;
        }
        Ok(())
    }
}

impl Sink for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_at(bytes, Instant::now())
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        self.sink.wait(timeout)
    }
}
