//! End-to-end measurements: the real program, driven as a script drives it, with a clock on its guest's console.
//!
//! The modules that measure return samples ([`results`]) and print nothing; [`render`] makes text of them and measures
//! nothing. The boundary is the same for every mode: from just before the process is spawned to a byte that the guest
//! has written.

pub mod clones;
pub mod conditions;
pub mod disks;
pub mod echoes;
pub mod faults;
pub mod lazily;
pub mod options;
pub mod program;
pub mod render;
pub mod results;
pub mod sampled;
pub mod server;
pub mod sessions;
pub mod snapshots;
pub mod starts;
pub mod touches;
