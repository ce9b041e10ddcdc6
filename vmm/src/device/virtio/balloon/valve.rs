//! The host's hand on the balloon: how large it is to be, how large it is, what the guest says of its memory, and the
//! way to have all free memory back at once.
//!
//! Shared by the device, wherever it lives, and whoever turns the valve; neither waits for the other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::super::ConfigSpace;
use super::Stats;
use crate::memory::layout::PAGE_SIZE;

/// Where `struct virtio_balloon_config` (5.5.4) has `num_pages` and `actual`; the rest belongs to features that are not
/// offered.
const NUM_PAGES: usize = 0;
const ACTUAL: usize = 4;
const BYTES: usize = 8;

/// Bytes that a guest keeps when all of its free memory is wanted, and a share of all its memory on top: a kernel that is
/// left with less begins to throw out caches, and programs.
const KEPT: u64 = 16 << 20;
const KEPT_SHARE: u64 = 64;
/// The balloon is as large as it gets if it has not grown for so long. Linux tries again after a fifth of a second.
const STUCK: Duration = Duration::from_millis(600);

/// The valve of one balloon.
#[derive(Debug)]
pub struct Valve {
    config: Arc<ConfigSpace>,
    /// Written when there is a wish: for the device's worker.
    wish: OwnedFd,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    wishes: Wishes,
    /// Whether a driver is there that tells statistics.
    tells: bool,
    /// What it has told last, and how often it has.
    stats: Stats,
    told: u64,
}

/// What the device is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Tell the driver that the size has changed.
    pub size: bool,
    /// Ask for statistics.
    pub stats: bool,
}

impl Valve {
    /// A valve whose balloon is empty.
    ///
    /// # Errors
    /// The process may open no more descriptors.
    pub fn new() -> io::Result<Arc<Self>> {
        let config = ConfigSpace::new(vec![0; BYTES], ACTUAL..ACTUAL + 4);
        let wish = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Arc::new(Self { config: Arc::new(config), wish, now: Mutex::default() }))
    }

    /// How large the balloon is to be, in pages of 4 KiB.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        self.field(NUM_PAGES)
    }

    /// How large it is, as the guest says, in pages of 4 KiB.
    #[must_use]
    pub fn actual(&self) -> u32 {
        self.field(ACTUAL)
    }

    /// Asks the guest to make the balloon so large, in pages of 4 KiB. It does so when it gets to it, and as far as
    /// it can.
    pub fn want(&self, pages: u32) {
        self.config.change(|bytes| bytes[NUM_PAGES..NUM_PAGES + 4].copy_from_slice(&pages.to_le_bytes()));
        self.make(Wishes { size: true, stats: false });
    }

    /// What the guest has said last of its memory, and how often it has said something since this process has it.
    /// `None` if there is no driver that does.
    #[must_use]
    pub fn stats(&self) -> Option<(Stats, u64)> {
        let now = self.lock();
        now.tells.then_some((now.stats, now.told))
    }

    /// Asks the guest to say it anew.
    pub fn ask_for_stats(&self) {
        self.make(Wishes { size: false, stats: true });
    }

    pub(super) fn config(&self) -> Arc<ConfigSpace> {
        Arc::clone(&self.config)
    }

    pub(super) fn wish(&self) -> BorrowedFd<'_> {
        self.wish.as_fd()
    }

    pub(super) fn take_wishes(&self) -> Wishes {
        let _ = rustix::io::read(&self.wish, &mut [0; 8]);
        std::mem::take(&mut self.lock().wishes)
    }

    pub(super) fn tell(&self, stats: Stats) {
        let mut now = self.lock();
        now.stats = stats;
        now.told += 1;
    }

    /// A driver is ready, or was restored. It is told again of a size that it may not know of yet.
    pub(super) fn driver_is_there(&self, tells: bool) {
        self.lock().tells = tells;
        if self.wanted() != self.actual() {
            self.make(Wishes { size: true, stats: false });
        }
    }

    pub(super) fn driver_is_gone(&self) {
        self.lock().tells = false;
        self.config.change(|bytes| bytes[ACTUAL..ACTUAL + 4].fill(0));
    }

    fn make(&self, Wishes { size, stats }: Wishes) {
        let mut now = self.lock();
        now.wishes.size |= size;
        now.wishes.stats |= stats;
        // Fails only if it is full, and then it is readable.
        let _ = rustix::io::write(&self.wish, &1_u64.to_ne_bytes());
    }

    fn field(&self, at: usize) -> u32 {
        let bytes = self.config.bytes();
        bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |field| u32::from_le_bytes(*field))
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to have a guest's free memory back at once: the balloon is blown up to what the guest says is free, and emptied
/// again. What it held is free memory of the guest's afterwards, and none of the host's.
#[derive(Debug)]
pub struct Reclaim {
    valve: Arc<Valve>,
    /// The size to go back to.
    before: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Until the guest has spoken more often than this.
    Ask(u64),
    /// Until the balloon is so large, or has not grown from its size since that time.
    Inflate(u32, u32, Instant),
    Deflate,
    Done,
}

impl Reclaim {
    /// Begins. `None` if the guest has no driver that says how much is free.
    #[must_use]
    pub fn begin(valve: &Arc<Valve>) -> Option<Self> {
        let (_, told) = valve.stats()?;
        valve.ask_for_stats();
        Some(Self { valve: Arc::clone(valve), before: valve.wanted(), phase: Phase::Ask(told) })
    }

    /// The size that the balloon goes back to, in pages of 4 KiB.
    #[must_use]
    pub fn goes_back_to(&self) -> u32 {
        self.before
    }

    /// Somebody wants the balloon to be so large when this is over, in pages of 4 KiB.
    pub fn go_back_to(&mut self, pages: u32) {
        self.before = pages;
        // While it is being blown up, what comes after that is not asked for yet.
        if !matches!(self.phase, Phase::Inflate(..)) {
            self.valve.want(pages);
        }
    }

    /// Takes the next step if it is time for it; whether all are taken. To be called every few milliseconds while the
    /// guest runs.
    pub fn step(&mut self, now: Instant) -> bool {
        let actual = self.valve.actual();
        self.phase = match self.phase {
            Phase::Ask(told) => match self.valve.stats() {
                Some((stats, latest)) if latest > told => {
                    let more = spare(&stats);
                    let target = actual.saturating_add(more);
                    self.valve.want(target.max(self.before));
                    Phase::Inflate(target, actual, now)
                }
                Some(_) => Phase::Ask(told),
                None => Phase::Done,
            },
            Phase::Inflate(target, largest, since) => {
                let is_stuck = now.saturating_duration_since(since) > STUCK;
                if actual >= target || actual <= largest && is_stuck {
                    self.valve.want(self.before);
                    Phase::Deflate
                } else if actual > largest {
                    Phase::Inflate(target, actual, now)
                } else {
                    Phase::Inflate(target, largest, since)
                }
            }
            Phase::Deflate if actual <= self.before => Phase::Done,
            phase => phase,
        };
        matches!(self.phase, Phase::Done)
    }
}

/// Nobody waits for the end any more: the balloon goes back to its size, when the guest gets to it.
impl Drop for Reclaim {
    fn drop(&mut self) {
        if self.valve.wanted() != self.before {
            self.valve.want(self.before);
        }
    }
}

/// How many pages of its free memory a guest can do without.
fn spare(stats: &Stats) -> u32 {
    let kept = KEPT + stats.total.unwrap_or(0) / KEPT_SHARE;
    let spare = stats.free.unwrap_or(0).saturating_sub(kept) / PAGE_SIZE;
    u32::try_from(spare).unwrap_or(u32::MAX)
}
