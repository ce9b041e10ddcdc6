//! Lines of text: composing them without `core::fmt`, which is larger than all of spark, and reading numbers.

/// The longest line: what `echo` gives back of a command of [`crate::command::LONGEST`] bytes, and some room.
const CAPACITY: usize = 192;

/// A line being composed. What does not fit is dropped.
pub struct Text {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Text {
    pub fn new() -> Self {
        Self { bytes: [0; CAPACITY], len: 0 }
    }

    pub fn clear(&mut self) -> &mut Self {
        self.len = 0;
        self
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        for &byte in bytes {
            self.byte(byte);
        }
        self
    }

    pub fn str(&mut self, text: &str) -> &mut Self {
        self.raw(text.as_bytes())
    }

    /// Decimal, padded with zeros to `width` digits.
    pub fn padded(&mut self, value: u64, width: u32) -> &mut Self {
        let mut power = 1u64;
        let mut digits = 1;
        while digits < width || value / power >= 10 {
            power *= 10;
            digits += 1;
        }
        while power > 0 {
            self.byte(b'0' + (value / power % 10) as u8);
            power /= 10;
        }
        self
    }

    pub fn dec(&mut self, value: u64) -> &mut Self {
        self.padded(value, 1)
    }

    /// Hexadecimal with `0x` and without leading zeros.
    pub fn hex(&mut self, value: u64) -> &mut Self {
        self.str("0x");
        let mut shift = 60 - (value | 1).leading_zeros() / 4 * 4;
        loop {
            let digit = (value >> shift & 15) as u8;
            self.byte(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
            if shift == 0 {
                return self;
            }
            shift -= 4;
        }
    }

    /// A number of bytes: in MiB, or in KiB where it is not a whole number of MiB.
    pub fn size(&mut self, bytes: u64) -> &mut Self {
        if bytes & 0xf_ffff == 0 {
            self.dec(bytes >> 20).str(" MiB")
        } else {
            self.dec(bytes >> 10).str(" KiB")
        }
    }
}

/// Splits off the first word: what comes before the first space, and the rest after that one space.
pub fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| byte == b' ') {
        Some(at) => (text.get(..at).unwrap_or(&[]), text.get(at + 1..).unwrap_or(&[])),
        None => (text, &[]),
    }
}

/// A number, decimal or hexadecimal with `0x`.
pub fn number(text: &[u8]) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix(b"0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &byte| {
        let digit = (byte as char).to_digit(radix)?;
        value.checked_mul(radix as u64)?.checked_add(digit as u64)
    })
}

/// A number of bytes, with K, M or G for the powers of 1024.
pub fn size(text: &[u8]) -> Option<u64> {
    let (digits, unit) = match text.split_last() {
        Some((b'K', digits)) => (digits, 1 << 10),
        Some((b'M', digits)) => (digits, 1 << 20),
        Some((b'G', digits)) => (digits, 1 << 30),
        _ => (text, 1),
    };
    number(digits)?.checked_mul(unit)
}
