//! What each letter from the control socket does to the VM.

use event_manager::EventOps;

use super::{Ending, Pause, Supervisor};
use crate::control::{Answer, Description, Fault, Letter, Reply, Request, VmState};
use crate::device::virtio::transport::Busy;

impl Supervisor<'_> {
    /// Takes one letter; the event loop comes back while there are more.
    pub(super) fn open_letter(&mut self, ops: &mut EventOps<'_>) {
        let Some(letter) = self.mailbox.as_ref().and_then(|mailbox| mailbox.try_take()) else { return };
        // Its client has given up on it: it would be told of nothing, and is told that nothing will happen.
        if !letter.is_wanted() {
            return tracing::debug!(request = ?letter.request, "a request is dropped whose client has gone");
        }
        let reply = match &letter.request {
            Request::Snapshot(request) => {
                let request = request.clone();
                return self.snapshot(letter, request, ops);
            }
            Request::Stop => return self.stop(letter),
            Request::Describe => Ok(Answer::Description(self.describe())),
            Request::Pause => self.pause_for(&letter, ops),
            Request::Resume => {
                self.resume(ops);
                self.done()
            }
            Request::DescribeBalloon => self.describe_balloon(),
            Request::SetBalloon(size) => self.set_balloon(*size),
            Request::BalloonStats => self.balloon_stats(),
            Request::SendCtrlAltDel => self.press_ctrl_alt_del(),
        };
        letter.reply(reply);
    }

    fn describe(&self) -> Description {
        Description {
            id: format!("rekindle-{}", std::process::id()),
            state: if self.life.is_running() { VmState::Running } else { VmState::Paused },
            vmm_version: env!("CARGO_PKG_VERSION").to_owned(),
            app_name: "Rekindle".to_owned(),
        }
    }

    fn pause_for(&mut self, letter: &Letter, ops: &mut EventOps<'_>) -> Reply {
        let was_running = self.life.is_running();
        match self.pause(&|| !letter.is_wanted()) {
            Pause::Busy(busy) => return Err(still_busy(&busy)),
            // It was given up meanwhile.
            Pause::AtRest(_) if was_running && !letter.is_wanted() => self.resume(ops),
            Pause::AtRest(_) => {
                // Should a snapshot that is being written fail, the guest stays as it was asked to be last.
                self.stay_paused_after_commit();
                self.wait_no_longer(ops);
            }
            Pause::Ended => {}
        }
        self.done()
    }

    /// Answered first: the process may end before a later answer is sent.
    fn stop(&mut self, letter: Letter) {
        letter.reply(Ok(Answer::Done));
        self.end(Ok(Ending::Asked));
    }

    fn press_ctrl_alt_del(&mut self) -> Reply {
        match self.life.devices().i8042().send_ctrl_alt_del() {
            Ok(()) => Ok(Answer::Done),
            Err(e) => Err(Fault::of(&e)),
        }
    }

    /// Success, unless the VM has just come to its end.
    fn done(&self) -> Reply {
        if self.ending.is_some() { Err(gone()) } else { Ok(Answer::Done) }
    }
}

/// What is said to whoever wants a guest to stand still whose device waits for the host.
pub(super) fn still_busy(busy: &Busy) -> Fault {
    Fault::of(busy).with_hint("the guest runs on; see to the storage behind it, then ask again")
}

/// What is said to whoever asks something of a guest that has just stopped of itself.
pub(super) fn gone() -> Fault {
    Fault::refused("the guest has stopped of itself")
}
