//! How many descriptors this process may have (RLIMIT_NOFILE), and how many VMs that is enough for.
//!
//! A server at the limit does harm: what a VMM has sent is lost when the kernel has no descriptor to put it in
//! (`MSG_CTRUNC`, recvmsg(2)). So the soft limit is raised, and no more VMs are taken than there are descriptors for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For each VM: its connection, its userfaultfd, what tells that something was read beside, and, of another make, its process.
const PER_SESSION: u64 = 4;
/// What is left to everything else: whoever asks for the metrics, files that are looked at, handshakes with more
/// descriptors than there should be.
const RESERVE: u64 = 64;

/// Raises the soft limit to the hard one, which the process may do by itself. What breaks beyond 1024 is select(2), which
/// nothing here calls.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "more descriptors may be open"),
        Err(errno) => tracing::warn!(?current, %errno, "no more descriptors may be open"),
    }
}

/// How many VMs of `wanted` there are descriptors for, with those that are open now taken off: one at least.
#[must_use]
pub fn sessions(wanted: usize) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return wanted };
    fitting(wanted, limit, open())
}

fn fitting(wanted: usize, limit: u64, open: u64) -> usize {
    let fit = limit.saturating_sub(open).saturating_sub(RESERVE) / PER_SESSION;
    wanted.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}

/// How many are open.
fn open() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64)
}

/// What happens again and again is told the first time, and each time that there are twice as many.
#[derive(Debug, Default)]
pub(crate) struct Doubling {
    count: u64,
}

impl Doubling {
    /// Counts it; gives how often it has happened if that is to be told.
    pub(crate) fn count(&mut self) -> Option<u64> {
        self.count = self.count.saturating_add(1);
        self.count.is_power_of_two().then_some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_vms_than_there_are_descriptors_for() {
        assert_eq!(fitting(512, 1024, 10), 237);
        assert_eq!(fitting(100, 1024, 10), 100);
        assert_eq!([fitting(512, 64, 10), fitting(512, 0, 10)], [1, 1]);
        assert_eq!(fitting(512, u64::MAX, 10), 512);
    }

    #[test]
    fn what_happens_again_is_told_at_powers_of_two() {
        let mut doubling = Doubling::default();
        let told: Vec<u64> = (0..1000).filter_map(|_| doubling.count()).collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    }
}
