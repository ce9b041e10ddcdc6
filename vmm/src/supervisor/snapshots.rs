//! Snapshots on request: what needs the guest at rest in the event loop, the rest on a thread while the guest runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use event_manager::EventOps;
use vmm_sys_util::eventfd::EventFd;

use super::balloon::Waiting;
use super::letters::{gone, still_busy};
use super::overdue::Overdue;
use super::{Pause, Supervisor, Token};
use crate::control::{Answer, Fault, Letter, Reply, SnapshotRequest, SnapshotSummary};
use crate::snapshot::{self, Haste, Summary, Taken};

/// How often the end of a VM looks whether a snapshot has come to an end.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A snapshot that is being written out.
pub(super) struct Commit {
    thread: JoinHandle<Result<Summary, snapshot::Error>>,
    done: Arc<EventFd>,
    cancelled: Arc<AtomicBool>,
    letter: Letter,
    paused_us: u64,
    /// Whether the guest stands still only for this, so that it is to run again should this fail.
    stands_for_this: bool,
}

impl Commit {
    fn start(
        taken: Taken,
        letter: Letter,
        paused_us: u64,
        stands_for_this: bool,
    ) -> Result<Self, (Letter, Fault)> {
        let done = match EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) {
            Ok(done) => Arc::new(done),
            Err(e) => return Err((letter, Fault::of(&e))),
        };
        let cancelled = Arc::new(AtomicBool::new(false));
        let (tell, stop, asker) = (Arc::clone(&done), Arc::clone(&cancelled), letter.asker());
        let thread = thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            let committed = taken.commit(&|| stop.load(Ordering::Relaxed) || asker.has_gone());
            // The event loop may be gone; `join` is what matters then.
            let _ = tell.write(1);
            committed
        });
        match thread {
            Ok(thread) => Ok(Self { thread, done, cancelled, letter, paused_us, stands_for_this }),
            Err(e) => Err((letter, Fault::of(&e))),
        }
    }

    /// Makes it come to nothing, as soon as it looks.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Waits until it has come to its end, for so long at most: whether it has.
    pub(super) fn is_done_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while !self.thread.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
        true
    }

    /// Leaves it as it is, because the process is to end.
    pub(super) fn abandon(self) {
        self.letter.reply(Err(Fault::refused("the VM ended before the snapshot was written")));
    }

    /// Waits for the end, tells whoever asked, and says whether there is an image now.
    pub(super) fn join(self) -> bool {
        let committed = match self.thread.join() {
            Ok(committed) => committed,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let reply: Reply = match &committed {
            Ok(summary) => Ok(Answer::Snapshot(SnapshotSummary {
                paused_us: self.paused_us,
                memory_bytes: summary.data_bytes,
            })),
            Err(e) => Err(fault(e)),
        };
        self.letter.reply(reply);
        committed.is_ok()
    }
}

/// What is said to whoever asked for a snapshot that came to nothing.
fn fault(error: &snapshot::Error) -> Fault {
    let fault = Fault::of(error);
    match error.hint() {
        Some(hint) => fault.with_hint(hint),
        None => fault,
    }
}

impl Supervisor<'_> {
    /// Takes a snapshot, at once or when the guest has given its free memory back.
    pub(super) fn snapshot(&mut self, letter: Letter, request: SnapshotRequest, ops: &mut EventOps<'_>) {
        if self.commit.is_some() || self.waiting.is_some() {
            return letter.reply(Err(Fault::refused("a snapshot of this VM is already under way")));
        }
        let SnapshotRequest { out, resume, reclaim_ms } = request;
        if reclaim_ms == 0 {
            return self.snapshot_now(letter, &out, resume, ops);
        }
        // A bad path is to cost the guest nothing.
        let target = snapshot::check_target(&out).map_err(|e| fault(&e));
        let limit = Duration::from_millis(reclaim_ms);
        match target.and_then(|()| self.begin_reclaim(limit, ops)) {
            Ok((reclaiming, tick)) => {
                self.waiting = Some(Waiting { letter, out, resume, limit, reclaiming, tick });
            }
            Err(fault) => letter.reply(Err(fault)),
        }
    }

    /// Takes a snapshot. Whatever fails, a guest that was running goes on.
    pub(super) fn snapshot_now(&mut self, letter: Letter, out: &Path, resume: bool, ops: &mut EventOps<'_>) {
        let was_running = self.life.is_running();
        // Until the guest may run again, or the image is being written on a thread.
        let _overdue = Overdue::watch(self.signals);
        let start = match self.pause(&|| !letter.is_wanted()) {
            Pause::AtRest(since) => since,
            Pause::Busy(busy) => return letter.reply(Err(still_busy(&busy))),
            Pause::Ended => return letter.reply(Err(gone())),
        };
        let Some(vm) = self.life.at_rest() else { return letter.reply(Err(gone())) };
        let signals = &self.signals;
        let haste = if resume { Haste::GuestWaits } else { Haste::NobodyWaits };
        let taken = snapshot::take(vm, out, haste, &|| signals.is_pending() || !letter.is_wanted());
        let runs_on = if taken.is_ok() { resume } else { was_running };
        if runs_on {
            self.resume(ops);
        }
        let paused_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        match taken {
            Ok(taken) => {
                // A guest that runs already is not touched again: somebody may have paused it meanwhile.
                let stands = was_running && !resume;
                self.write_out(Commit::start(taken, letter, paused_us, stands), stands, ops)
            }
            Err(e) => letter.reply(Err(fault(&e))),
        }
    }

    fn write_out(
        &mut self,
        started: Result<Commit, (Letter, Fault)>,
        stands_for_this: bool,
        ops: &mut EventOps<'_>,
    ) {
        match started {
            Ok(commit) => {
                if let Err(e) = ops.add(Token::Committed.event(&*commit.done)) {
                    tracing::warn!(error = %e, "waiting for the snapshot to be written out");
                    self.written(commit.stands_for_this, commit.join(), ops);
                } else {
                    self.commit = Some(commit);
                }
            }
            Err((letter, fault)) => {
                letter.reply(Err(fault));
                self.written(stands_for_this, false, ops);
            }
        }
    }

    /// Somebody wants the guest paused, whatever becomes of the snapshot that is being written.
    pub(super) fn stay_paused_after_commit(&mut self) {
        if let Some(commit) = &mut self.commit {
            commit.stands_for_this = false;
        }
    }

    /// The thread has told that it is done.
    pub(super) fn committed(&mut self, ops: &mut EventOps<'_>) {
        let Some(commit) = self.commit.take() else { return };
        // Fails only if it is not watched, and it just was.
        let _ = ops.remove(Token::Committed.event(&*commit.done));
        self.written(commit.stands_for_this, commit.join(), ops);
    }

    /// A guest that ran before a snapshot that came to nothing runs again.
    fn written(&mut self, stands_for_this: bool, is_there: bool, ops: &mut EventOps<'_>) {
        if stands_for_this && !is_there {
            self.resume(ops);
        }
    }
}
