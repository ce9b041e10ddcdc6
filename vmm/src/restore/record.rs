//! Recording which pages a restored guest touches first, and adding that to its image as its working set.
//!
//! Goes on beside the guest, on a thread, for a time or until the VM ends. The image gains the part in one step, and
//! nothing else in its directory is touched.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use snapshot_format::pages::PageCount;
use snapshot_format::{ImageDir, WorkingSet, dir, working_set};

use crate::memory::Memory;
use crate::memory::touched::Touched;
use crate::sys::signals;

/// Why there is no new working set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be seen what the guest touches.
    #[error("cannot watch what the guest touches")]
    Watch(#[source] crate::memory::Error),
    /// The page map could not be read.
    #[error("cannot tell which pages of guest memory were touched")]
    PageMap(#[source] io::Error),
    /// The thread could not be started.
    #[error("cannot start a thread that records")]
    Thread(#[source] io::Error),
    /// What was seen makes no working set.
    #[error("what the guest has touched makes no working set")]
    Set(#[source] working_set::Error),
    /// The image did not take it.
    #[error("cannot add the working set to the image")]
    Store(#[source] dir::Error),
    /// The machine was not built.
    #[error("no guest was restored that could be watched")]
    Nobody,
}

/// What was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Pages that were touched.
    pub pages: u64,
    /// How many of them were written.
    pub written: u64,
}

impl Subject {
    /// Whether there is a set to be looked at, which is worth a thread: most images have none.
    pub(super) fn may_have_working_set(&self) -> bool {
        !matches!(self.dir.part(dir::WORKING_SET), Ok(None))
    }

    /// The set that the image has already. One that cannot be used is none.
    pub(super) fn working_set(&self) -> Option<WorkingSet> {
        let set = self.dir.working_set(self.image_id, self.file_pages);
        set.inspect_err(|error| tracing::warn!(%error, "the image's working set is of no use")).ok().flatten()
    }
}

/// A recording, from before the guest runs until somebody asks for what came of it.
#[derive(Debug)]
pub struct Recording {
    shared: Arc<Shared>,
}

/// Between the recording's thread, whoever starts it, and whoever waits for it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    ended: Mutex<bool>,
    end: Condvar,
    thread: Mutex<Option<JoinHandle<Result<Recorded, Error>>>>,
}

/// What a set is of.
pub(super) struct Subject {
    pub(super) dir: ImageDir,
    pub(super) image_id: [u8; 16],
    pub(super) file_pages: PageCount,
}

impl Recording {
    pub(super) fn new() -> Self {
        Self { shared: Arc::default() }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Ends it, and says what came of it. The image has it when this returns.
    ///
    /// # Errors
    /// Nothing did.
    pub fn finish(self) -> Result<Recorded, Error> {
        *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.end.notify_all();
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread.ok_or(Error::Nobody)?.join() {
            Ok(recorded) => recorded,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Shared {
    /// Starts to watch `memory`, for `time` at most.
    pub(super) fn start(
        self: Arc<Self>,
        memory: &Memory,
        subject: Subject,
        time: Duration,
    ) -> Result<(), Error> {
        let touched = memory.watch_touches().map_err(Error::Watch)?;
        let shared = Arc::clone(&self);
        let builder = thread::Builder::new().name("record".to_owned());
        let thread = builder.spawn(move || {
            signals::leave_to_others();
            record(touched, &subject, time, |pause| shared.wait(pause))
        });
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread.map_err(Error::Thread)?);
        Ok(())
    }

    /// Waits, and says whether it is to end.
    fn wait(&self, pause: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.end.wait_timeout_while(ended, pause, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn record(
    mut touched: Touched,
    subject: &Subject,
    time: Duration,
    enough: impl FnMut(Duration) -> bool,
) -> Result<Recorded, Error> {
    touched.watch(Instant::now() + time, enough).map_err(Error::PageMap)?;
    let runs = touched.runs().map_err(Error::PageMap)?;
    // The guest runs on as it would have without being watched.
    drop(touched);
    let set = WorkingSet::new(subject.image_id, runs, subject.file_pages).map_err(Error::Set)?;
    dir::replace_part(&subject.dir, dir::WORKING_SET, &set.encode()).map_err(Error::Store)?;
    let recorded = Recorded { pages: set.pages(), written: set.written_pages() };
    tracing::info!(pages = recorded.pages, written = recorded.written, "the image has a working set");
    Ok(recorded)
}
