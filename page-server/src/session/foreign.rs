//! The VMs of other makes that are being served, for the thread that ends the server.
//!
//! Once the server's process has ended, its descriptors of their memory are closed. A VMM that has no other finds zeros from
//! then on where a page is missing (`userfaultfd_release` of fs/userfaultfd.c), and its guest goes on with them. So a server
//! that has to end while a page is missing forsakes these VMs before. Their own sessions may be waiting for a disk, and are
//! not asked. VMs of ours keep a descriptor, and end themselves.

#[cfg(test)]
#[path = "foreign_test.rs"]
mod foreign_test;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use snapshot_format::handoff::Mapping;

use super::peer::Peer;
use super::{cpus, lost};
use crate::sys::uffd::Memory;

/// How long all of them may take. Whose turn comes later is killed.
const ALL: Duration = Duration::from_secs(20);
/// How long a connection may take to say what it wants. One that has said so already is met at once.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(1);

/// A VM of another make.
pub(crate) struct Foreign {
    pub(super) memory: Memory,
    pub(super) mappings: Vec<Mapping>,
    pub(super) peer: Arc<Peer>,
}

/// All of them, by the numbers of their sessions.
#[derive(Default)]
pub(crate) struct Foreigners {
    /// Connections of which nobody knows yet whose they are.
    unknown: AtomicUsize,
    known: Mutex<HashMap<u64, Foreign>>,
}

impl Foreigners {
    /// A connection is taken.
    pub(crate) fn expect(&self) {
        self.unknown.fetch_add(1, Ordering::SeqCst);
    }

    /// One that was expected is of this VM, or of one of ours, or of none.
    pub(crate) fn enter(&self, number: u64, foreign: Option<Foreign>) {
        if let Some(foreign) = foreign {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(number, foreign);
        }
        self.unknown.fetch_sub(1, Ordering::SeqCst);
    }

    /// Its session is over: the VM has ended, or misses nothing any more.
    pub(crate) fn leave(&self, number: u64) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// Keeps every one of them from going on with zeros where a page is missing, in bounded time. Call only if the process
    /// ends next: their sessions deliver nothing any more.
    pub(crate) fn forsake_all(&self) {
        let start = Instant::now();
        loop {
            // In this order: who is not unknown any more is known.
            let unknown = self.unknown.load(Ordering::SeqCst);
            let all = std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner));
            if !all.is_empty() {
                forsake(all, start + ALL);
            } else if unknown == 0 || start.elapsed() >= PATIENCE {
                return;
            } else {
                thread::sleep(LOOK);
            }
        }
    }
}

/// On all CPUs, and on this thread alone if there is no other.
fn forsake(all: HashMap<u64, Foreign>, limit: Instant) {
    let others = cpus().min(all.len()).saturating_sub(1);
    let left = Mutex::new(all.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some((number, foreign)) = next() {
            tracing::warn!(session = number, "a VM is given up: the server ends while pages are missing");
            lost::forsake(foreign, limit);
        }
    };
    thread::scope(|scope| {
        for _ in 0..others {
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}
