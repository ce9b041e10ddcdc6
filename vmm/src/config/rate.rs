//! How much of something in how much time.

use std::fmt;

use super::Error;

/// A token bucket: `size` tokens, which flow back evenly within `refill_ms` once they are spent, and `burst` more that
/// are there once and do not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketConfig {
    size: u64,
    refill_ms: u64,
    burst: u64,
}

impl BucketConfig {
    /// The most tokens, of either sort: a pebibyte, if they are bytes.
    pub const MAX_TOKENS: u64 = 1 << 50;
    /// The longest refill: a day, in milliseconds.
    pub const MAX_REFILL_MS: u64 = 24 * 60 * 60 * 1000;

    /// `size` is 1 to [`Self::MAX_TOKENS`], `refill_ms` 1 to [`Self::MAX_REFILL_MS`], and `burst` at most
    /// [`Self::MAX_TOKENS`]; else `None`.
    #[must_use]
    pub fn new(size: u64, refill_ms: u64, burst: u64) -> Option<Self> {
        let fits = (1..=Self::MAX_TOKENS).contains(&size)
            && (1..=Self::MAX_REFILL_MS).contains(&refill_ms)
            && burst <= Self::MAX_TOKENS;
        fits.then_some(Self { size, refill_ms, burst })
    }

    /// Takes `SIZE[/TIME][+BURST]`, where the time has `ms`, `s` or `m` and is a second if it is left out. `unit` says
    /// whether the numbers may have K, M or G.
    pub fn parse(text: &str, unit: RateUnit) -> Result<Self, Error> {
        let refused = || Error::Rate { value: text.to_owned(), unit };
        let (rate, burst) = match text.split_once('+') {
            Some((rate, burst)) => (rate, unit.number(burst).ok_or_else(refused)?),
            None => (text, 0),
        };
        let (size, refill_ms) = match rate.split_once('/') {
            Some((size, time)) => (size, milliseconds(time).ok_or_else(refused)?),
            None => (rate, 1000),
        };
        let size = unit.number(size).ok_or_else(refused)?;
        Self::new(size, refill_ms, burst).ok_or_else(refused)
    }

    /// Tokens in a full bucket; not 0.
    #[must_use]
    pub fn size(self) -> u64 {
        self.size
    }

    /// Milliseconds in which an empty bucket fills up; not 0.
    #[must_use]
    pub fn refill_ms(self) -> u64 {
        self.refill_ms
    }

    /// Tokens that are there once.
    #[must_use]
    pub fn burst(self) -> u64 {
        self.burst
    }
}

/// What tokens stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateUnit {
    /// Bytes, written with K, M and G as powers of 1024.
    Bytes,
    /// Requests or frames.
    Operations,
}

impl RateUnit {
    pub(super) fn number(self, text: &str) -> Option<u64> {
        let (digits, shift) = match (self, text.as_bytes().last()?) {
            (Self::Bytes, b'K' | b'k') => (&text[..text.len() - 1], 10),
            (Self::Bytes, b'M' | b'm') => (&text[..text.len() - 1], 20),
            (Self::Bytes, b'G' | b'g') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        whole(digits)?.checked_mul(1 << shift)
    }
}

impl fmt::Display for RateUnit {
    /// An example.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "100M, 100M/500ms or 100M/1s+1G",
            Self::Operations => "1000, 1000/500ms or 1000/1s+5000",
        })
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    let at = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit_ms: u64 = match &text[at..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    whole(&text[..at])?.checked_mul(unit_ms)
}

/// A whole number without a sign.
fn whole(digits: &str) -> Option<u64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// What one direction of a device may carry. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimitConfig {
    /// In bytes of data or of frames.
    pub bandwidth: Option<BucketConfig>,
    /// In requests or frames.
    pub operations: Option<BucketConfig>,
}
