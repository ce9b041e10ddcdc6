//! How many descriptors this process may have (RLIMIT_NOFILE), and what of that connections may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that connections leave alone: for the VM, its devices, snapshots, the control socket and its clients. The
/// most that a VM holds without connections is below 200: 32 vCPUs, and eight devices of up to a dozen each.
pub(crate) const RESERVE: u64 = 256;

/// Raises the soft limit of descriptors to the hard one. Whatever counts on the soft limit is `select(2)`, which nothing
/// here calls. A limit that cannot be raised stays as it is.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Fails only if somebody else lowers the hard limit in this instant.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// How many connections a device may have that would have `most`: so many that the rest of the process keeps what it
/// needs.
pub(crate) fn for_connections(most: usize) -> usize {
    within(getrlimit(Resource::Nofile).current, most)
}

/// The same for a limit of `descriptors`; none is unlimited.
pub(crate) fn within(descriptors: Option<u64>, most: usize) -> usize {
    let Some(descriptors) = descriptors else { return most };
    // Under a limit that is lower than any in use, half is better than nothing.
    let left = descriptors.saturating_sub(RESERVE).max(descriptors / 4);
    usize::try_from(left).map_or(most, |left| left.min(most))
}
