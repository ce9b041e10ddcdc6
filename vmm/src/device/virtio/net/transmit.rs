//! Frames from the guest.

use super::tap::Sent;
use super::{HEADER, Net, TX};
use crate::device::virtio::rate::RateLimit;
use crate::device::virtio::{Broken, Queues};

/// The most frames in one go: then the host's are looked after.
const BATCH: usize = 64;
/// What no frame is longer than, in bytes with its header: the kernel takes packets up to 64 KiB.
const LONGEST: u32 = 128 << 10;

/// The sending side.
#[derive(Debug)]
pub(super) struct Transmitter {
    // Guest-visible state.
    pub limit: RateLimit,
    // Transient.
    /// Whether the next thing to happen is that the TAP has room.
    pub awaits_tap: bool,
    /// Whether requests may be in the queue that nobody will ring for: for want of tokens, or of time.
    has_more: bool,
}

impl Transmitter {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, awaits_tap: false, has_more: false }
    }

    /// The driver has reset the device.
    pub(super) fn forget(&mut self) {
        (self.awaits_tap, self.has_more) = (false, false);
    }

    pub(super) fn acknowledge(&self) {
        self.limit.acknowledge();
    }

    pub(super) fn rest(&mut self) {
        self.forget();
        self.limit.rest();
    }

    /// Whether there is something to send that no doorbell will ring for.
    pub(super) fn waits(&self) -> bool {
        self.awaits_tap || self.has_more
    }
}

impl Net {
    /// Sends as long as there are frames, room and tokens, within bounds.
    pub(super) fn transmit(&mut self, queues: &mut Queues) -> Result<(), Broken> {
        self.tx.forget();
        let Some(queue) = queues.get_mut(TX) else { return Ok(()) };
        let mut left = BATCH;
        loop {
            queue.silence()?;
            loop {
                if left == 0 {
                    self.tx.has_more = true;
                    self.watch.nudge_now();
                    return Ok(());
                }
                if !self.tx.limit.may_begin() {
                    self.tx.has_more = true;
                    return Ok(());
                }
                let Some(chain) = queue.take()? else { break };
                left -= 1;
                let len = chain.readable.len();
                // A frame that is none is lost, as what the kernel refuses is: it checks the header, of which it makes
                // a copy that the driver cannot change (`tun_get_user`, `virtio_net_hdr_to_skb`).
                if self.is_lost || !(HEADER..=LONGEST).contains(&len) {
                    self.tap.count_loss();
                    queue.answer(chain.head(), 0)?;
                    continue;
                }
                let sent = self.tap.send(&chain.readable.slices(queue.memory(), 0..len)?);
                match &sent {
                    Sent::NotNow => {
                        queue.give_back(1);
                        self.tx.awaits_tap = true;
                        return Ok(());
                    }
                    Sent::Yes => self.tx.limit.spend((len - HEADER).into()),
                    Sent::Refused(error) => self.tap.refuse(error),
                    Sent::Lost(_) => self.tap.count_loss(),
                }
                queue.answer(chain.head(), 0)?;
                if let Sent::Lost(error) = sent {
                    self.lose(queues, &error);
                    // What follows is lost as well, by the way in.
                    self.tx.has_more = true;
                    self.watch.nudge_now();
                    return Ok(());
                }
            }
            if queue.is_to_rest() || !queue.listen()? {
                return Ok(());
            }
        }
    }
}
