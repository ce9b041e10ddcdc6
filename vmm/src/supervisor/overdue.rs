//! Ends the process in the event loop's stead, when a signal wants that and the event loop stands still in a call to
//! storage that does not answer.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::life::END_LIMIT;
use crate::sys::signals::EndSignals;
use crate::sys::{endings, signals};

/// How often to look for a signal.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const MESSAGE: &[u8] = b"error: the VM was left as it was: its storage does not answer\n  \
    caused by: a snapshot was being taken when a signal came, and has not come to an end\n";

/// Somebody looks out for as long as this lives.
pub(super) struct Overdue {
    _over: Sender<()>,
}

impl Overdue {
    /// Looks out from here on, on a thread of its own. Without one the process waits for its storage.
    pub(super) fn watch(signals: &EndSignals) -> Option<Self> {
        let signals = signals.try_clone().ok()?;
        let (over, is_over) = mpsc::channel::<()>();
        let look = move || {
            signals::leave_to_others();
            let mut since = None;
            while is_over.recv_timeout(LOOK_AGAIN) == Err(RecvTimeoutError::Timeout) {
                if signals.is_pending() && since.get_or_insert_with(Instant::now).elapsed() > END_LIMIT {
                    endings::leave(MESSAGE, 1);
                }
            }
        };
        let started = thread::Builder::new().name("overdue".to_owned()).stack_size(64 << 10).spawn(look);
        started.is_ok().then_some(Self { _over: over })
    }
}
