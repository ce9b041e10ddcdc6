//! Who this guest is among its clones: VMGenID ("Virtual Machine Generation ID", Microsoft 2012) and VMClock
//! (`linux/vmclock-abi.h`), two pages of guest memory that hold other numbers after every restore.
//!
//! A machine that boots gets numbers, one that is restored gets new ones before anything runs, and an interrupt, which
//! whoever builds the machine raises. A machine that merely goes on after a snapshot keeps them. They are random: clones of
//! one image cannot know of each other. Beside the entropy device this is the one user of the host's random numbers.
//!
//! What a kernel does with that is its own affair. Linux (5.18 and later, `CONFIG_VMGENID`) reseeds its random number generator
//! with the generation ID (`add_vmfork_randomness`), in three steps: the interrupt, which is pending before the first
//! instruction; a real-time thread that runs the AML; a worker of `kacpi_notify` that calls the driver. Until the worker
//! has run, a task on another CPU, or one that the scheduler prefers to the worker, still draws what its twins draw.
//!
//! Knows where its pages lie and what they say; tables that describe them are `arch::x86_64::acpi`'s.

mod saved;
mod vmclock;

#[cfg(test)]
mod identity_test;

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::arch::x86_64::gsi;
use crate::memory::GuestRam;
use crate::memory::layout;

pub use saved::SECTION;

/// Why a machine got no identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `getrandom(2)` failed.
    #[error("the host has no random numbers for a new identity")]
    Random(#[source] io::Error),
    /// A page is not where one can be.
    #[error("the {what} cannot lie at {gpa:#x}")]
    Place {
        /// Which.
        what: &'static str,
        /// Its saved address.
        gpa: u64,
    },
    /// There is no such interrupt.
    #[error("there is no interrupt {gsi} to tell of a new identity")]
    Gsi {
        /// The saved number.
        gsi: u32,
    },
    /// Guest memory ends before it.
    #[error("cannot write the identity at {gpa:#x}")]
    Write {
        /// Guest-physical address.
        gpa: u64,
        /// What guest memory said.
        #[source]
        source: GuestMemoryError,
    },
}

/// Both devices.
#[derive(Debug)]
pub struct Identity {
    // Configuration, which ACPI has told the guest.
    generation_id: u64,
    vmclock: u64,
    gsi: u32,
    // Connections.
    memory: GuestRam,
    // Guest-visible state: in guest memory, and never the same again.
}

/// Numbers that were never there before.
struct Numbers {
    /// The generation ID.
    id: [u8; 16],
    /// VMClock's `disruption_marker`.
    disruption: u64,
    /// VMClock's `vm_generation_counter`.
    generation: u64,
}

impl Numbers {
    fn draw() -> Result<Self, Error> {
        let mut bytes = [0; 32];
        // Up to 256 bytes come all at once or not at all (getrandom(2)).
        getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|e| Error::Random(e.into()))?;
        let (id, rest) = bytes.split_first_chunk().expect("there are 32 bytes");
        let (disruption, rest) = rest.split_first_chunk().expect("16 are left");
        let (generation, _) = rest.split_first_chunk().expect("8 are left");
        let [disruption, generation] = [*disruption, *generation].map(u64::from_le_bytes);
        Ok(Self { id: *id, disruption, generation })
    }
}

impl Identity {
    /// For a machine that boots.
    ///
    /// # Errors
    /// The host has no random numbers, or guest memory ends below 1 MiB.
    pub fn new(memory: GuestRam) -> Result<Self, Error> {
        let identity = Self {
            generation_id: layout::GENERATION_ID,
            vmclock: layout::VMCLOCK,
            gsi: gsi::IDENTITY,
            memory,
        };
        identity.renew()?;
        Ok(identity)
    }

    /// The interrupt to be raised after a restore.
    #[must_use]
    pub fn gsi(&self) -> u32 {
        self.gsi
    }

    /// Makes the guest another one. Call only while it stands still.
    fn renew(&self) -> Result<(), Error> {
        let Numbers { id, disruption, generation } = Numbers::draw()?;
        let write = |gpa: u64, bytes: &[u8]| {
            self.memory.write_slice(bytes, GuestAddress(gpa)).map_err(|source| Error::Write { gpa, source })
        };
        write(self.generation_id, &id)?;
        let seq_count = GuestAddress(self.vmclock + vmclock::SEQ_COUNT);
        let before: u32 =
            self.memory.read_obj(seq_count).map_err(|source| Error::Write { gpa: seq_count.0, source })?;
        write(self.vmclock, &vmclock::page(vmclock::next(before), disruption, generation))
    }
}
