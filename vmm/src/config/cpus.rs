//! The number of vCPUs.

use std::fmt;
use std::str::FromStr;

use super::Error;

/// A number of vCPUs, 1 to 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuCount(u8);

impl CpuCount {
    /// One.
    pub const MIN: Self = Self(1);
    /// 32, as Firecracker's API has it.
    pub const MAX: Self = Self(32);

    /// Takes a count.
    pub fn new(count: u32) -> Result<Self, Error> {
        u8::try_from(count)
            .ok()
            .map(Self)
            .filter(|c| (Self::MIN..=Self::MAX).contains(c))
            .ok_or_else(|| Error::CpuCount { value: count.to_string() })
    }

    /// The count.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for CpuCount {
    fn default() -> Self {
        Self::MIN
    }
}

impl FromStr for CpuCount {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::CpuCount { value: text.to_owned() };
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused());
        }
        Self::new(text.parse().map_err(|_| refused())?)
    }
}

impl fmt::Display for CpuCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
