//! The size of guest memory.

use std::fmt;
use std::str::FromStr;

use super::Error;

/// Guest RAM in bytes: a multiple of 4 KiB from 16 MiB to 1023 GiB.
///
/// Written as a whole number with K, M or G (powers of 1024, either case), or in bytes without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(u64);

impl MemorySize {
    /// 16 MiB: the least that a stock kernel unpacks itself into.
    pub const MIN: Self = Self(16 << 20);
    /// 1023 GiB: with the hole below 4 GiB, the 1 TiB of addresses that every x86-64 host has (40 bits).
    pub const MAX: Self = Self(1023 << 30);
    /// 256 MiB.
    pub const DEFAULT: Self = Self(256 << 20);

    const PAGE: u64 = 4096;

    /// Takes a size in bytes.
    pub fn from_bytes(bytes: u64) -> Result<Self, Error> {
        Self::checked(bytes, || bytes.to_string())
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    fn checked(bytes: u64, value: impl FnOnce() -> String) -> Result<Self, Error> {
        if !(Self::MIN.0..=Self::MAX.0).contains(&bytes) {
            return Err(Error::MemoryRange { value: value() });
        }
        if !bytes.is_multiple_of(Self::PAGE) {
            return Err(Error::MemoryAlignment { value: value() });
        }
        Ok(Self(bytes))
    }
}

impl Default for MemorySize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for MemorySize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let syntax = || Error::MemorySyntax { value: text.to_owned() };
        let (digits, shift) = match text.as_bytes().last().ok_or_else(syntax)? {
            b'K' | b'k' => (&text[..text.len() - 1], 10),
            b'M' | b'm' => (&text[..text.len() - 1], 20),
            b'G' | b'g' => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        // `u64::from_str` takes a leading plus sign, which nobody means.
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(syntax());
        }
        let range = || Error::MemoryRange { value: text.to_owned() };
        let number: u64 = digits.parse().map_err(|_| range())?;
        let bytes = number.checked_mul(1 << shift).ok_or_else(range)?;
        Self::checked(bytes, || text.to_owned())
    }
}

impl fmt::Display for MemorySize {
    /// In the largest unit that leaves a whole number, as `from_str` reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shift, unit) = match self.0.trailing_zeros() {
            30.. => (30, "G"),
            20.. => (20, "M"),
            _ => (10, "K"),
        };
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

const _: () =
    assert!(MemorySize::MAX.0 == crate::memory::layout::MAX_RAM, "what is promised can be laid out");
