//! One interrupt line from a device to the in-kernel interrupt controllers.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

/// An edge-triggered line: an eventfd that the machine has bound to a GSI with `KVM_IRQFD`.
///
/// Without that binding (in a unit test) a pulse is just counted by the eventfd.
#[derive(Clone, Debug)]
pub struct IrqLine(Arc<EventFd>);

impl IrqLine {
    /// A line that is not bound to anything yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?)))
    }

    /// Raises the line and lowers it again.
    pub fn pulse(&self) -> io::Result<()> {
        self.0.write(1)
    }

    /// The descriptor to bind.
    pub fn eventfd(&self) -> &EventFd {
        &self.0
    }
}
