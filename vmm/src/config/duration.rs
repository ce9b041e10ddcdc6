//! A time limit.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::Error;

/// How long to wait for a guest's free memory: from 1 ms to a minute, written as a [`Timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReclaimLimit(Timeout);

impl ReclaimLimit {
    /// The limit.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0.get()
    }

    /// The limit in milliseconds.
    #[must_use]
    pub fn milliseconds(self) -> u64 {
        self.get().as_millis() as u64
    }
}

impl FromStr for ReclaimLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bounds = Duration::from_millis(1)..=Duration::from_secs(60);
        within(text, bounds, |value| Error::ReclaimRange { value }).map(Self)
    }
}

/// How long a page of guest memory may take to be delivered: from 100 ms to 10 minutes, written as a [`Timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagesTimeout(Timeout);

impl PagesTimeout {
    /// The limit.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0.get()
    }
}

impl Default for PagesTimeout {
    /// 10 s.
    fn default() -> Self {
        Self(Timeout(Duration::from_secs(10)))
    }
}

impl FromStr for PagesTimeout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bounds = Duration::from_millis(100)..=Duration::from_secs(600);
        within(text, bounds, |value| Error::PagesTimeoutRange { value }).map(Self)
    }
}

impl fmt::Display for PagesTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// For how long a guest is watched: from 1 ms to 10 minutes, written as a [`Timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordTime(Timeout);

impl RecordTime {
    /// The time.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0.get()
    }
}

impl FromStr for RecordTime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bounds = Duration::from_millis(1)..=Duration::from_secs(600);
        within(text, bounds, |value| Error::RecordRange { value }).map(Self)
    }
}

/// A time limit with bounds of its own, which are said if it is not within them.
fn within(
    text: &str,
    bounds: RangeInclusive<Duration>,
    refused: impl FnOnce(String) -> Error,
) -> Result<Timeout, Error> {
    match text.parse::<Timeout>() {
        Ok(limit) if bounds.contains(&limit.get()) => Ok(limit),
        Ok(_) | Err(Error::TimeoutRange { .. }) => Err(refused(text.to_owned())),
        Err(other) => Err(other),
    }
}

/// A time limit from 1 ms to 24 h, written as a whole number with `ms`, `s` or `m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timeout(Duration);

impl Timeout {
    /// 1 ms.
    pub const MIN: Self = Self(Duration::from_millis(1));
    /// 24 h: what waits longer is not being waited for.
    pub const MAX: Self = Self(Duration::from_secs(24 * 60 * 60));
    /// 60 s.
    pub const DEFAULT: Self = Self(Duration::from_secs(60));

    /// The limit.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Default for Timeout {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for Timeout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let at = text.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, unit) = text.split_at(at);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            _ => 0,
        };
        if unit_ms == 0 || digits.is_empty() {
            return Err(Error::TimeoutSyntax { value: text.to_owned() });
        }
        digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(unit_ms))
            .map(|ms| Self(Duration::from_millis(ms)))
            .filter(|t| (Self::MIN..=Self::MAX).contains(t))
            .ok_or_else(|| Error::TimeoutRange { value: text.to_owned() })
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms.is_multiple_of(1000) => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}
