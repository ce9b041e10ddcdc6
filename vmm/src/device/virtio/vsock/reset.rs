//! Telling a guest that has come back from an image that its connections are gone (virtio 1.2, 5.10.6.7): the event
//! that resets them, before anybody can make a new one.
//!
//! Linux resets every connected socket when it reads the event (`virtio_vsock_event_handle`), on another thread than the
//! one that reads packets. A connection that was made before the event is read would be reset with the old ones, so no
//! packet is taken or given until the driver has put the event's buffer back into its queue, which Linux does right
//! after. A driver that gives no buffers is not waited for longer than [`MOST_WAIT`]: each connection gets an RST, too.

use std::time::{Duration, Instant};

use super::super::{Broken, Virtqueue};

/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`.
const TRANSPORT_RESET: u32 = 0;
/// How long packets are held back for a driver that does not take the event or does not give its buffer back.
const MOST_WAIT: Duration = Duration::from_secs(2);

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransportReset {
    /// The guest knows, or there is nothing to know.
    Done,
    /// The event is to be sent, since the driver was first looked at, if it was.
    Owed { until: Option<Instant> },
    /// It was sent when the driver had offered so many buffers.
    Sent { offered: u16, until: Instant },
}

impl TransportReset {
    pub(super) const OWED: Self = Self::Owed { until: None };

    /// When it is over at the latest, if that has been decided.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Done => None,
            Self::Owed { until } => until,
            Self::Sent { until, .. } => Some(until),
        }
    }

    /// Whether packets may go to and fro.
    pub(super) fn is_done(self) -> bool {
        self == Self::Done
    }

    /// Goes on as far as the driver lets it, with the event queue if the driver has one.
    ///
    /// # Errors
    /// The ring or the buffer makes no sense.
    pub(super) fn advance(&mut self, events: Option<&mut Virtqueue>, now: Instant) -> Result<(), Broken> {
        let Some(events) = events else {
            // A driver without the queue does not want to be told.
            *self = Self::Done;
            return Ok(());
        };
        loop {
            *self = match *self {
                Self::Done => return Ok(()),
                Self::Owed { until } => {
                    let until = until.unwrap_or(now + MOST_WAIT);
                    match send(events)? {
                        Some(offered) => Self::Sent { offered, until },
                        None if now >= until => Self::Done,
                        None => {
                            *self = Self::Owed { until: Some(until) };
                            if events.is_to_rest() || !events.listen()? {
                                return Ok(());
                            }
                            continue;
                        }
                    }
                }
                Self::Sent { offered, until } => {
                    if now < until && !events.listen_beyond(offered)? {
                        return Ok(());
                    }
                    events.silence()?;
                    Self::Done
                }
            };
        }
    }
}

/// Sends the event if there is a buffer for it; gives the number of buffers that had been offered by then.
fn send(events: &mut Virtqueue) -> Result<Option<u16>, Broken> {
    // Before the buffer is given away, after which the driver may offer it again.
    let offered = events.offered()?;
    let Some(chain) = events.take()? else { return Ok(None) };
    let event = TRANSPORT_RESET.to_le_bytes();
    if chain.writable.write(events.memory(), 0, &event)? < event.len() {
        return Err(Broken::Chain { head: chain.head(), problem: "is too small for an event" });
    }
    events.answer(chain.head(), event.len() as u32)?;
    Ok(Some(offered))
}
