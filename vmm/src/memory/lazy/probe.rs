//! Asking for a page, to see whether it comes.
//!
//! Nothing else tells a server that is slow from one that has stopped, and it needs nothing of the server's but that it
//! delivers. Whoever touches a page waits until it is there, so that is a thread of its own.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::pages::Pages;
use super::{Error, Signal};
use crate::memory::OwnRun;
use crate::sys::signals;

/// A thread that touches pages on request, one request at a time.
#[derive(Debug)]
pub(super) struct Prober {
    ask: mpsc::Sender<OwnRun>,
    answers: mpsc::Receiver<io::Result<()>>,
    answered: Arc<Signal>,
    thread: JoinHandle<()>,
    asked: Option<(OwnRun, Instant)>,
}

impl Prober {
    pub(super) fn start(pages: &Arc<Pages>) -> Result<Self, Error> {
        let answered = Arc::new(Signal::new()?);
        let (ask, asked) = mpsc::channel::<OwnRun>();
        let (answer, answers) = mpsc::channel();
        let (pages, tell) = (Arc::clone(pages), Arc::clone(&answered));
        let builder = thread::Builder::new().name("page-probe".to_owned()).stack_size(128 << 10);
        let thread = builder.spawn(move || {
            signals::leave_to_others();
            for run in asked {
                if answer.send(pages.fetch(&run)).is_err() {
                    break;
                }
                tell.give();
            }
        });
        Ok(Self { ask, answers, answered, thread: thread.map_err(Error::Watch)?, asked: None })
    }

    /// Readable when an answer has come.
    pub(super) fn answered(&self) -> &Signal {
        &self.answered
    }

    /// What was asked for last and has not come, and since when it is waited for.
    pub(super) fn asked(&self) -> Option<&(OwnRun, Instant)> {
        self.asked.as_ref()
    }

    /// Asks for pages. Call only if nothing is asked for.
    pub(super) fn ask(&mut self, run: OwnRun) {
        // The thread lives until the other end is dropped.
        if self.ask.send(run.clone()).is_ok() {
            self.asked = Some((run, Instant::now()));
        }
    }

    /// The pages that were asked for, if an answer has come, and what it is.
    pub(super) fn take(&mut self) -> Option<(OwnRun, io::Result<()>)> {
        self.answered.take();
        let answer = self.answers.try_recv().ok()?;
        self.asked.take().map(|(run, _)| (run, answer))
    }

    /// Ends the thread. Nothing may be asked for that still does not come.
    pub(super) fn end(self) {
        let Self { ask, thread, .. } = self;
        drop(ask);
        let _ = thread.join();
    }
}
