//! What a restored guest is told: that its cable is in another socket, where nobody has heard of it.

use super::Net;
use super::features::{STATUS, feature, link};
use crate::device::virtio::Queues;

/// What is still to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// That it was restored.
    Restored,
    /// That the cable is in again, once the driver has seen that it was out.
    Plugged,
}

impl Net {
    /// Tells the driver what it is time to tell.
    ///
    /// A driver that can announce its address is asked to (5.1.6.5.4): its network learns where it is now, and
    /// connections go on. Any other sees its cable pulled and put back. It must not miss that, and drivers read the
    /// status some time after the interrupt, so the second half waits until the first was read.
    pub(super) fn tell(&mut self, queues: &Queues) {
        if self.is_lost {
            self.news = News::None;
        }
        match self.news {
            News::None => {}
            News::Restored if !self.has(feature::STATUS) => self.news = News::None,
            News::Restored if self.has(feature::GUEST_ANNOUNCE | feature::CTRL_VQ) => {
                self.set_status(link::UP | link::ANNOUNCE);
                queues.interrupt().config_changed();
                self.news = News::None;
            }
            News::Restored => {
                self.set_status(0);
                self.config.watch(STATUS, self.watch.nudge().clone());
                queues.interrupt().config_changed();
                self.news = News::Plugged;
            }
            News::Plugged if self.config.is_watched() => {}
            News::Plugged => {
                self.set_status(link::UP);
                queues.interrupt().config_changed();
                self.news = News::None;
            }
        }
    }
}
