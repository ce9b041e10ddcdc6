//! The in-kernel interrupt controllers and timer, and the lines that devices pull.
//!
//! Routing is KVM's default for the full in-kernel chipset (`kvm_setup_default_irq_routing`): GSI 0 to 15 go to the
//! 8259s and the IOAPIC, GSI 16 to 23 to the IOAPIC. It is never changed, so there is nothing of it to save.

mod chipset;
mod line;
mod saved;

pub use chipset::Chipset;
pub use line::IrqLine;

/// Why the chipset could not be made, saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A KVM call failed.
    #[error("cannot {call}")]
    Ioctl {
        /// The call, as a verb and its object.
        call: &'static str,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
}
