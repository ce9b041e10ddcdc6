//! The control queue (5.1.6.5): what the driver says of itself.

use super::features::{feature, link};
use super::{CONTROL, Net};
use crate::device::virtio::{Broken, Queues};

/// Class and command of `VIRTIO_NET_CTRL_ANNOUNCE_ACK`: the driver has announced itself.
const ANNOUNCE_ACK: [u8; 2] = [3, 0];
/// Answers.
const OK: u8 = 0;
const ERR: u8 = 1;

impl Net {
    /// Answers every command there is.
    pub(super) fn control(&mut self, queues: &mut Queues) -> Result<(), Broken> {
        let Some(queue) = queues.get_mut(CONTROL) else { return Ok(()) };
        queue.serve(|chain, memory| {
            let mut command = [0; 2];
            let len = chain.readable.read(memory, 0, &mut command)?;
            let answer = if len == command.len() { self.obey(command) } else { ERR };
            if chain.writable.write(memory, 0, &[answer])? == 0 {
                return Err(Broken::Chain { head: chain.head(), problem: "has no room for an answer" });
            }
            Ok(1)
        })
    }

    fn obey(&self, command: [u8; 2]) -> u8 {
        if command != ANNOUNCE_ACK || !self.has(feature::GUEST_ANNOUNCE) {
            return ERR;
        }
        let status = self.status();
        if status & link::ANNOUNCE != 0 {
            self.set_status(status & !link::ANNOUNCE);
        }
        OK
    }
}
