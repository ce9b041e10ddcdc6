//! The life of one VM, from its first resume to its end: one thread, one event loop.
//!
//! It feeds the console, serves the control socket's letters, takes snapshots and notices why the guest stops. All
//! transitions between running and paused happen here, one at a time, so nothing can be half way between two.
//!
//! ```text
//!   vCPU thread returned --.
//!   signal ----------------|
//!   console input ---------+--> Supervisor --> Ending
//!   letter from the socket |
//!   image changed ---------|
//!   a page is lost --------|
//!   guest is ready --------|
//!   free memory is back ---|
//!   snapshot committed ----'
//! ```

mod balloon;
mod base;
mod input;
mod letters;
mod life;
mod overdue;
mod snapshots;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

pub use input::{Filter, Input, Passed};
pub use life::PAUSE_LIMIT;

use crate::control::Mailbox;
use crate::device::virtio::transport::Busy;
use crate::lifecycle::StopReason;
use crate::machine::PausedVm;
use crate::memory::lazy::{Loss, Lost};
use crate::sys::bus_error;
use crate::sys::signals::EndSignals;
use balloon::Waiting;
use life::{Life, Stand};
use snapshots::Commit;

/// Why the life of a VM could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine failed.
    #[error("the VM has failed")]
    Machine(#[source] crate::machine::Error),
    /// What the host does not complete keeps the VM from being stopped or saved.
    #[error("the VM was left as it was: its storage does not answer")]
    Busy(#[source] Busy),
    /// The image that the guest runs from has lost memory of the guest's.
    #[error("the image that the guest runs from has changed under it")]
    Image(#[source] snapshot_format::pages::Error),
    /// A page of the guest's memory that was to be delivered is lost.
    #[error("guest memory cannot be delivered any more")]
    Pages(#[source] Lost),
    /// The event loop could not be set up or waited on.
    #[error("the event loop failed: {0}")]
    Events(event_manager::Error),
    /// A descriptor of the event loop could not be made.
    #[error("cannot set up the event loop")]
    Setup(#[source] io::Error),
}

/// The signals that ask this process to end, blocked and watched.
#[derive(Debug)]
pub struct Signals(EndSignals);

impl Signals {
    /// Call in the first thread before any other is started. From here on the signals do nothing of themselves, so
    /// whatever takes long has to look at [`Self::is_pending`].
    pub fn watch() -> Result<Self, Error> {
        EndSignals::watch().map(Self).map_err(Error::Setup)
    }

    /// Whether one has come that nobody has acted on.
    pub fn is_pending(&self) -> bool {
        self.0.is_pending()
    }
}

/// How the life of a VM begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The guest runs at once.
    Running,
    /// It stands still until a letter from the control socket resumes it.
    Paused,
}

/// What a VM is watched for.
pub struct Watch<'session> {
    /// Whether the guest runs at once.
    pub start: Start,
    /// Signals that end it.
    pub signals: &'session mut Signals,
    /// Where its console input comes from.
    pub input: Option<Input>,
    /// Where the control socket's letters arrive.
    pub mailbox: Option<Mailbox>,
    /// When to give up.
    pub deadline: Option<Instant>,
    /// Called once, as soon as the guest runs, or stands still as it was asked to.
    pub on_running: Option<Box<dyn FnOnce()>>,
}

/// How the life of a VM ended.
pub enum Ending {
    /// The guest stopped of itself; the machine is as it was at that instant.
    Guest(StopReason, Box<PausedVm>),
    /// A signal, by its number.
    Signal(i32),
    /// The control socket's `stop`.
    Asked,
    /// The person at the terminal quit.
    Quit,
    /// The deadline passed.
    Late,
}

/// Lets `vm` run until something ends it.
pub fn run(vm: PausedVm, watch: Watch<'_>) -> Result<Ending, Error> {
    let Watch { start, signals, input, mailbox, deadline, on_running } = watch;
    let drained = vm.devices().input_drained();
    let image = vm.memory().mapped_image().cloned();
    let loss = vm.memory().loss().cloned();
    if loss.is_some() {
        bus_error::supervise();
    }
    let ready = vm.virtio().said_ready();
    let life = Life::start(vm, start)?;
    if let Some(tell) = on_running {
        tell();
    }
    let mut events = EventManager::new().map_err(Error::Events)?;
    let id = events.add_subscriber(Supervisor {
        signals: &mut signals.0,
        input: input.map(|input| input::Feed::new(input, drained)),
        mailbox,
        base: image.as_ref().and_then(base::BaseWatch::start),
        loss,
        ready,
        life,
        waiting: None,
        commit: None,
        ending: None,
    });
    loop {
        let supervisor = events.subscriber_mut(id).map_err(Error::Events)?;
        let Some(timeout) = supervisor.timeout(deadline) else { break };
        let served = events.run_with_timeout(timeout).map_err(Error::Events)?;
        if served == 0 {
            // Time has passed: what waits for nothing else is tried again.
            events.subscriber_mut(id).map_err(Error::Events)?.retry_input();
        }
    }
    let supervisor = events.remove_subscriber(id).map_err(Error::Events)?;
    supervisor.finish()
}

/// What an event is about.
#[derive(Clone, Copy)]
enum Token {
    Returned,
    Signal,
    Input,
    Drained,
    Mail,
    Committed,
    Base,
    Pages,
    Ready,
    Reclaim,
}

impl Token {
    const ALL: [Self; 10] = [
        Self::Returned,
        Self::Signal,
        Self::Input,
        Self::Drained,
        Self::Mail,
        Self::Committed,
        Self::Base,
        Self::Pages,
        Self::Ready,
        Self::Reclaim,
    ];

    fn of(data: u32) -> Option<Self> {
        Self::ALL.get(data as usize).copied()
    }

    fn event(self, source: &impl AsRawFd) -> Events {
        Events::with_data(source, self as u32, EventSet::IN)
    }
}

/// What came of bringing the guest to rest.
enum Pause {
    /// It is at rest, since then.
    AtRest(Instant),
    /// The VM's life has ended.
    Ended,
    /// It runs on, because a device waits for the host.
    Busy(Busy),
}

struct Supervisor<'session> {
    // Connections.
    signals: &'session mut EndSignals,
    input: Option<input::Feed>,
    mailbox: Option<Mailbox>,
    base: Option<base::BaseWatch>,
    /// What becomes known of a loss, if the guest's memory is being delivered.
    loss: Option<Arc<Loss>>,
    /// Written when the guest has said through a device with a thread of its own that it is ready.
    ready: Option<Arc<EventFd>>,
    // The VM.
    life: Life,
    /// The snapshot that is to be taken when the guest has given its free memory back.
    waiting: Option<Waiting>,
    /// The snapshot that is being written out while the guest may run.
    commit: Option<Commit>,
    ending: Option<Result<Ending, Error>>,
}

impl Supervisor<'_> {
    /// How long to wait for the next event, in ms, -1 for as long as it takes; `None` when the VM's life is over.
    fn timeout(&mut self, deadline: Option<Instant>) -> Option<i32> {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            self.end(Ok(Ending::Late));
        }
        if self.ending.is_some() {
            return None;
        }
        let retry = self.input.as_ref().and_then(input::Feed::retry_in);
        let Some(soonest) = left.into_iter().chain(retry).min() else { return Some(-1) };
        // Rounded up, so that the loop does not spin through the last millisecond.
        Some(i32::try_from(soonest.as_millis() + 1).unwrap_or(i32::MAX))
    }

    fn end(&mut self, how: Result<Ending, Error>) {
        // The first reason stands: what comes after it are consequences.
        self.ending.get_or_insert(how);
    }

    /// Ends the VM if memory of the guest's is lost.
    fn check_memory(&mut self) {
        if let Some(lost) = self.lost() {
            self.end(Err(Error::Pages(lost)));
        }
        if let Some(Err(e)) = self.base.as_ref().map(base::BaseWatch::look) {
            self.end(Err(Error::Image(e)));
        }
    }

    /// Ends the VM if a page is lost. A guest without memory is neither stopped nor started: a thread of its devices that
    /// has found that out stands still, and would be waited for.
    fn ends_for_loss(&mut self) -> bool {
        let lost = self.lost();
        let is_lost = lost.is_some();
        lost.into_iter().for_each(|lost| self.end(Err(Error::Pages(lost))));
        is_lost
    }

    fn lost(&self) -> Option<Lost> {
        self.loss.as_ref().and_then(|loss| loss.get()).cloned()
    }

    /// A vCPU thread has returned: the guest has stopped of itself, or cannot go on.
    fn guest_stopped(&mut self) {
        // A wake-up from before a pause, in the same batch of events, finds the counter at zero.
        if self.life.someone_returned()
            && let Pause::Busy(busy) = self.pause(&|| false)
        {
            self.end_busy(busy);
        }
    }

    /// A guest that was to be brought to rest, and the VM's life with it, has a device that is busy. A signal ends the wait
    /// for it at once, and the VM by its own event: that says nothing of the storage.
    fn end_busy(&mut self, busy: Busy) {
        if !self.signals.is_pending() {
            self.end(Err(Error::Busy(busy)));
        }
    }

    /// The guest has said that it is ready, and whoever started it waits for that: it stops here, a moment later.
    fn guest_is_ready(&mut self) {
        if let Some(ready) = &self.ready {
            let _ = ready.read();
        }
        match self.pause(&|| false) {
            Pause::AtRest(_) => {
                if let Some(vm) = self.life.take() {
                    self.end(Ok(Ending::Guest(StopReason::Ready, vm)));
                }
            }
            Pause::Busy(busy) => self.end_busy(busy),
            Pause::Ended => {}
        }
    }

    /// Brings the guest to rest, and says whether there is a guest at rest now. There is none if it had stopped of
    /// itself or cannot go on: then that is how its life ends, unless it fell over memory that it no longer has, which
    /// says more. A signal, and `is_over`, end the wait for a device.
    fn pause(&mut self, is_over: &dyn Fn() -> bool) -> Pause {
        if self.ends_for_loss() {
            return Pause::Ended;
        }
        let signals = &self.signals;
        match self.life.pause(&|| signals.is_pending() || is_over()) {
            Ok(Stand::AtRest(since)) => Pause::AtRest(since),
            Ok(Stand::Busy(busy)) => Pause::Busy(busy),
            Ok(Stand::Stopped(reason, vm)) => {
                self.check_memory();
                self.end(Ok(Ending::Guest(reason, vm)));
                Pause::Ended
            }
            Err(e) => {
                self.check_memory();
                self.end(Err(e));
                Pause::Ended
            }
        }
    }

    /// Lets the guest run again, and its console be fed.
    fn resume(&mut self, ops: &mut EventOps<'_>) {
        if self.ends_for_loss() {
            return;
        }
        if let Err(e) = self.life.resume() {
            self.end(Err(e));
        }
        if let Some(input) = &mut self.input {
            input.watch(ops);
            input.deliver(self.life.devices());
        }
    }

    /// Waits for a snapshot that is being written out, so that it is there or gone, and whoever asked is told.
    fn finish(mut self) -> Result<Ending, Error> {
        if self.lost().is_some() {
            bus_error::leave_to_supervisor();
        }
        if let (Some(waiting), Some(Ok(Ending::Guest(..)))) = (self.waiting.take(), &self.ending) {
            waiting.letter.reply(Err(letters::gone()));
        }
        if let Some(commit) = self.commit.take() {
            // Whoever sends a signal wants an end, not an image.
            let by_signal = matches!(self.ending, Some(Ok(Ending::Signal(_))));
            if by_signal {
                commit.cancel();
            }
            if by_signal && !commit.is_done_within(life::END_LIMIT) {
                tracing::warn!(
                    "the snapshot that is being written is left unfinished: its storage does not answer"
                );
                commit.abandon();
            } else {
                commit.join();
            }
        }
        let left = if self.lost().is_some() {
            self.life.abandon();
            Ok(())
        } else {
            self.life.end()
        };
        match (self.ending.unwrap_or(Ok(Ending::Asked)), left) {
            (Ok(_), Err(busy)) => Err(Error::Busy(busy)),
            (ending, _) => ending,
        }
    }
}

impl MutEventSubscriber for Supervisor<'_> {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let mut watched =
            vec![Token::Signal.event(self.signals), Token::Returned.event(self.life.returned())];
        watched.extend(self.base.as_ref().map(|base| Token::Base.event(base.told())));
        watched.extend(self.loss.as_ref().map(|loss| Token::Pages.event(loss.told())));
        watched.extend(self.ready.as_ref().map(|ready| Token::Ready.event(ready.as_ref())));
        watched.extend(self.mailbox.as_ref().map(|mailbox| Token::Mail.event(&mailbox.eventfd())));
        for event in watched {
            if let Err(e) = ops.add(event) {
                self.end(Err(Error::Events(e)));
            }
        }
        if let Some(input) = &mut self.input {
            input.open(ops);
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        match Token::of(events.data()) {
            Some(Token::Returned) => self.guest_stopped(),
            Some(Token::Signal) => {
                if let Some(signal) = self.signals.take() {
                    self.end(Ok(Ending::Signal(signal)));
                }
            }
            Some(Token::Input) => self.input_ready(ops),
            Some(Token::Drained) => self.input_room(ops),
            Some(Token::Mail) => self.open_letter(ops),
            Some(Token::Committed) => self.committed(ops),
            Some(Token::Base | Token::Pages) => self.check_memory(),
            Some(Token::Ready) => self.guest_is_ready(),
            Some(Token::Reclaim) => self.look_at_reclaim(ops),
            None => {}
        }
    }
}
