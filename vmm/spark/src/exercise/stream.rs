//! A stream of bytes to a port of the host that sends back what it gets: what comes back is compared, byte by byte, and
//! a connection that was reset is made anew.

use super::{Dice, Exercise};
use crate::memory::read_volatile;
use crate::pattern::word;
use crate::text::Text;
use crate::virtio::Problem;
use crate::virtio::area::put;
use crate::virtio::vsock::{MOST, News, Vsock};

/// Bytes on their way to the host and back.
const WINDOW: u64 = 16 << 10;
/// Connections refused one after the other before it is a failure.
const REFUSALS: u64 = 1000;

pub struct Exerciser<'a> {
    vsock: &'a mut Vsock,
    port: u32,
    dice: Dice,
    seed: u64,
    /// Bytes still to be sent.
    left: u64,
    /// Of this connection.
    number: u64,
    sent: u64,
    back: u64,
    connected: bool,
    /// Connections that did not come about since the last that did.
    refused: u64,
    /// Of all connections.
    echoed: u64,
    resets: u64,
    over: bool,
}

impl<'a> Exerciser<'a> {
    /// `bytes` bytes to `port`, rounded down to words. What a reset connection had on its way is not sent again.
    pub fn new(vsock: &'a mut Vsock, port: u32, bytes: u64, seed: u64) -> Self {
        Self {
            vsock,
            port,
            dice: Dice::new(seed),
            seed,
            left: bytes / 8 * 8,
            number: 0,
            sent: 0,
            back: 0,
            connected: false,
            refused: 0,
            echoed: 0,
            resets: 0,
            over: false,
        }
    }

    /// The word of this connection's stream that begins at `position`, a multiple of 8.
    fn word(&self, position: u64) -> u64 {
        word(self.seed ^ self.number << 32, position)
    }

    fn byte(&self, position: u64) -> u8 {
        (self.word(position & !7) >> (position % 8 * 8)) as u8
    }

    fn check(&mut self, address: u64, bytes: u64) -> Result<(), Problem> {
        if self.back + bytes > self.sent {
            return Err("more came back than was sent");
        }
        for at in 0..bytes {
            if read_volatile::<u8>(address + at) != self.byte(self.back + at) {
                return Err("other bytes came back than were sent");
            }
        }
        self.back += bytes;
        self.echoed += bytes;
        Ok(())
    }

    fn lost(&mut self) -> Result<(), Problem> {
        if self.connected {
            self.resets += 1;
        } else {
            self.refused += 1;
        }
        self.connected = false;
        if self.refused > REFUSALS { Err("nobody takes the connection") } else { Ok(()) }
    }

    fn send(&mut self) -> bool {
        let room = self.vsock.credit().min(WINDOW - (self.sent - self.back)).min(self.left);
        let Some(address) = self.vsock.to_send() else { return false };
        // Whole words, so that positions stay multiples of 8.
        let words = room.min(MOST) / 8;
        if words == 0 {
            return false;
        }
        let bytes = 8 * (1 + self.dice.below(words));
        for at in (0..bytes).step_by(8) {
            put(address + at, self.word(self.sent + at));
        }
        self.vsock.send_data(bytes);
        self.sent += bytes;
        self.left -= bytes;
        true
    }
}

impl Exercise for Exerciser<'_> {
    fn turn(&mut self, ending: bool) -> Result<bool, Problem> {
        let mut busy = false;
        while let Some(news) = self.vsock.news()? {
            busy = true;
            match news {
                News::Connected => {
                    (self.connected, self.refused, self.sent, self.back) = (true, 0, 0, 0);
                }
                News::Data(address, bytes) => self.check(address, bytes)?,
                News::Reset | News::TransportReset => self.lost()?,
                News::Nothing => {}
            }
        }
        if ending {
            self.left = 0;
        }
        let is_done = self.left == 0 && (self.sent == self.back || !self.connected);
        if is_done && self.vsock.close() {
            self.over = true;
        } else if self.left > 0 && self.vsock.is_closed() && self.vsock.connect(self.port) {
            self.number += 1;
            busy = true;
        }
        while self.connected && self.left > 0 && self.send() {
            busy = true;
        }
        self.vsock.notify();
        Ok(busy)
    }

    fn is_over(&self) -> bool {
        self.over && self.vsock.outstanding() == 0
    }

    fn report(&self, to: &mut Text) {
        to.str("stream ").dec(self.echoed).str(" bytes ").dec(self.resets).str(" resets");
    }
}
