//! Debian packages: installing what a chore needs, and downloading archives that are only unpacked.

pub mod archive;
pub mod packages;

/// How long apt waits for another apt to finish, in seconds.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";
