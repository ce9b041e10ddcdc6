//! The machine: a frame that boot and restore both build on, and its two states, running and paused.
//!
//! ```text
//!   boot::boot ------.                       .--> RunningVm --.
//!                     >--> PausedVm --resume()                 halt()
//!   restore::build --'        ^              '-----------------'
//!                             '-- lends Quiesced: what saving asks for
//! ```
//!
//! There is exactly one way to start vCPUs, [`PausedVm::resume`], and a paused machine owns them as plain values, so a
//! guest cannot run while it is being saved.

mod builder;
mod caps;
mod connections;
mod frame;
mod host;
pub(crate) mod host_check;
mod kind;
mod paused;
mod reclaim;
mod running;

pub use builder::Guest;
pub use caps::Capability;
pub use connections::Connections;
pub use frame::{Frame, GuestFacts};
pub use host::{Host, NEEDED};
pub use kind::KvmKind;
pub(crate) use paused::Parts;
pub use paused::PausedVm;
pub use reclaim::{Reclaimed, Reclaiming, reclaim};
pub use running::{Halted, Halting, RunningVm};

use std::io;

use crate::device::virtio::transport::Busy;

/// Why a machine could not be built, run or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/dev/kvm` is not there.
    #[error("this host has no /dev/kvm")]
    NoKvm(#[source] io::Error),
    /// `/dev/kvm` may not be opened.
    #[error("no permission to open /dev/kvm")]
    KvmPermission(#[source] io::Error),
    /// `/dev/kvm` cannot be opened for another reason.
    #[error("cannot open /dev/kvm")]
    OpenKvm(#[source] io::Error),
    /// The KVM API has another version than the one that has been stable since Linux 2.6.22.
    #[error("KVM speaks API version {found}, 12 is needed")]
    ApiVersion {
        /// What `KVM_GET_API_VERSION` returned.
        found: i32,
    },
    /// KVM lacks something without which no VM of ours works.
    #[error("KVM on this host lacks {cap} ({purpose})")]
    MissingCapability {
        /// Which one.
        cap: Capability,
        /// What it is for.
        purpose: &'static str,
    },
    /// A KVM call on the VM failed.
    #[error("cannot {call}")]
    Vm {
        /// The call, as a verb and its object.
        call: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The memory size is impossible.
    #[error("cannot lay out guest memory")]
    Layout(#[source] crate::memory::layout::Error),
    /// The processor's addresses are too short for it.
    #[error(
        "guest memory ends at {end:#x}, beyond the {bits} physical address bits that this host gives a guest"
    )]
    AddressBits {
        /// First address after guest memory.
        end: u64,
        /// How many bits there are.
        bits: u32,
    },
    /// Guest memory.
    #[error("cannot set up guest memory")]
    Memory(#[source] crate::memory::Error),
    /// The chipset.
    #[error("cannot set up the chipset")]
    Chipset(#[source] crate::irq::Error),
    /// The kernel's file, or the initrd's.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// The file.
        path: std::path::PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The kernel cannot be loaded.
    #[error("cannot boot `{guest}`")]
    Boot {
        /// The kernel's file name, or `spark`.
        guest: String,
        /// Why.
        #[source]
        source: crate::boot::Error,
    },
    /// A vCPU.
    #[error("cannot set up a vCPU")]
    Vcpu(#[source] crate::vcpu::Error),
    /// A device could not be made.
    #[error("cannot set up the devices")]
    Device(#[source] crate::device::Error),
    /// The virtio devices could not be opened, made or started.
    #[error("cannot set up the virtio devices")]
    Virtio(#[source] crate::device::virtio::Error),
    /// Two devices claim the same addresses.
    #[error("cannot place the devices")]
    Bus(#[source] crate::bus::Error),
    /// An eventfd could not be made.
    #[error("cannot create an eventfd")]
    EventFd(#[source] io::Error),
    /// The signal handlers could not be installed.
    #[error("cannot install the signal handlers")]
    Signals(#[source] io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread for vCPU {vcpu}")]
    Thread {
        /// The vCPU's id.
        vcpu: u32,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A device waits for the host's storage, and the machine cannot be left running.
    #[error("the VM cannot be stopped in good order")]
    Busy(#[source] Busy),
    /// A vCPU met something that it cannot go on from.
    #[error("the guest cannot go on")]
    Run(#[source] crate::vcpu::Error),
}

impl Error {
    fn vm(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |e| Self::Vm { call, source: e.into() }
    }
}
