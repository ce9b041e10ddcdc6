//! How the life of a VM ended, as a result.

use std::io::Write;

use anyhow::{Error, Result};
use vmm::lifecycle::StopReason;
use vmm::supervisor::Ending;
use vmm::vcpu;

/// The guest did not end as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GuestFailed {
    /// It reported a panic.
    #[error("the guest has panicked")]
    Panic,
    /// A vCPU met a triple fault.
    #[error("the guest has met a triple fault")]
    TripleFault,
    /// It ended when it was to become ready.
    #[error("the guest {0} before it was ready")]
    EndedUnready(&'static str),
    /// It was not ready in time.
    #[error("the guest was not ready within {0:?}")]
    NotReady(std::time::Duration),
}

/// A VM that was to become ready was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("told to end before the guest was ready; no image was written")]
pub(super) struct Interrupted;

/// The image that a guest runs from is not there any more, or not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image's memory file was changed or its storage failed while the guest ran from it")]
pub(super) struct ImageLost;

/// A restored guest whose memory cannot be read has lost its image.
pub(super) fn blame_image(error: Error) -> Error {
    let unreadable = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(vcpu::Error::GuestMemory { .. }))
    };
    if error.chain().any(unreadable) { error.context(ImageLost) } else { error }
}

/// For a VM that runs until it ends: which endings are good ones. Tells the story on stderr.
pub(super) fn result(ending: Ending) -> Result<()> {
    match ending {
        Ending::Guest(StopReason::Panic, _) => Err(GuestFailed::Panic.into()),
        Ending::Guest(StopReason::TripleFault, _) => Err(GuestFailed::TripleFault.into()),
        Ending::Guest(reason, _) => {
            tell("the guest", story(reason));
            Ok(())
        }
        Ending::Signal(signal) => {
            tell("the VM was", &format!("ended by signal {signal}"));
            Ok(())
        }
        Ending::Asked => {
            tell("the VM was", "ended by request");
            Ok(())
        }
        Ending::Quit => {
            tell("the VM was", "ended from the terminal");
            Ok(())
        }
        // Only a bake has a deadline.
        Ending::Late => Ok(()),
    }
}

/// What the guest did.
pub(super) fn story(reason: StopReason) -> &'static str {
    match reason {
        StopReason::PowerOff => "has powered off",
        StopReason::Reset => "has reset the machine",
        StopReason::Panic => "has panicked",
        StopReason::TripleFault => "has met a triple fault",
        StopReason::Ready => "is ready",
    }
}

/// One line of ours on stderr.
pub(super) fn tell(who: &str, what: &str) {
    // A terminal that has gone is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "rekindle: {who} {what}");
}
