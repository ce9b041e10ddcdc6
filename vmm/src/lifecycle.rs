//! What saving and restoring mean for everything that has state, and why a guest may stop.
//!
//! A leaf: every device, the chipset and the machine use these types, and they use nothing of ours.

use std::marker::PhantomData;

/// Proof that the machine stands still: no vCPU runs and no device works on a request.
///
/// Lent by a paused machine and by nothing else, so that saving a running machine is a borrow error.
#[derive(Clone, Copy, Debug)]
pub struct Quiesced<'machine>(PhantomData<&'machine ()>);

impl<'machine> Quiesced<'machine> {
    /// Call only from the owner of a machine whose vCPU threads have all returned; the borrow of `_owner` keeps it so.
    pub(crate) fn lend<T>(_owner: &'machine T) -> Self {
        Self(PhantomData)
    }

    /// For tests of one device on its own, where nothing runs.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn in_test() -> Quiesced<'static> {
        Quiesced(PhantomData)
    }
}

/// Something whose guest-visible state is written to an image.
///
/// No default bodies: a device that forgets a part of this does not compile. `restore` is a constructor, so there is
/// no instant at which a restored thing is a fresh one.
pub trait Persist: Sized {
    /// The saved type, of `snapshot_format::state`.
    type State;
    /// The connections to the host that the restored thing is given: never saved.
    type Wiring;
    /// Why a saved state may be refused.
    type Error: std::error::Error;

    /// The guest-visible state.
    fn save(&self, at_rest: &Quiesced<'_>) -> Self::State;

    /// The thing as it was saved, on new connections. The state comes from a file that may be hostile.
    fn restore(state: Self::State, wiring: Self::Wiring) -> Result<Self, Self::Error>;
}

/// Why a guest stopped of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The guest powered the machine off (ACPI S5).
    PowerOff,
    /// The guest reset the machine (i8042 pulse, ACPI reset register).
    Reset,
    /// The guest reported a panic (pvpanic).
    Panic,
    /// A vCPU met a triple fault.
    TripleFault,
    /// The guest said that it is ready, and whoever started it asked to stop there.
    Ready,
}

/// What a vCPU does after a device has handled its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Go on.
    Continue,
    /// Leave the guest after this instruction.
    Stop(StopReason),
}
