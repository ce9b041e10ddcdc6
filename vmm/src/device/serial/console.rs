//! Where the guest's console output goes: byte for byte, in order, each as soon as the guest has written it.
//!
//! Owns the patience: a reader that is slow makes the guest wait, not lose. Only two things end a wait. When the
//! machine wants its vCPU threads to stop, what could not be written is kept and goes out first later. When the
//! descriptor fails for good (its reader is gone, the disk is full), the console goes silent, says so once in the log,
//! and the guest goes on.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::limit::{ConsoleLimits, Limited};
use crate::lifecycle::Effect;

/// How long one wait for a slow reader lasts before the wish to stop is looked at again. A signal ends it sooner; this
/// bounds the case where the signal came between the look and the wait.
const SLICE: Duration = Duration::from_millis(20);
/// How long to stay away from a descriptor that said it was writable and then was not, because others write to it too.
const BACK_OFF: Duration = Duration::from_millis(1);
/// The most that is written at once: a pipe that is writable takes this much without blocking (`PIPE_BUF`, pipe(7)).
const CHUNK: usize = 4096;

/// Sees every byte that the guest writes to its console, on the vCPU's thread: it must not block.
pub trait ConsoleTap: Send {
    /// The guest wrote `byte`. [`Effect::Stop`] stops the vCPU right after the instruction that wrote it.
    fn saw(&mut self, byte: u8) -> Effect;
}

impl<F: FnMut(u8) -> Effect + Send> ConsoleTap for F {
    fn saw(&mut self, byte: u8) -> Effect {
        self(byte)
    }
}

/// A destination of bytes. [`File`] in a machine, a script of answers in a test.
pub(super) trait Sink: Send {
    /// As `write(2)`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Waits until a write will not block, for at most `timeout`: whether it will not. An error in the descriptor
    /// counts as that, because the write will tell which. May come back early with `Interrupted`.
    fn wait(&mut self, timeout: Duration) -> io::Result<bool>;
}

/// The output side of the console.
pub struct ConsoleOut {
    // Configuration.
    tap: Option<Box<dyn ConsoleTap>>,
    // Connections.
    /// None for a console that goes nowhere, or that failed.
    sink: Option<Box<dyn Sink>>,
    stop_wanted: Arc<AtomicBool>,
    // Output on its way: what the guest wrote while it was wanted to stop and nobody took it. At most what the
    // instructions write that the vCPUs were in the middle of.
    pending: Vec<u8>,
    /// Whether the guest is in the middle of one instruction that writes many bytes, which go out together.
    is_held: bool,
    effect: Effect,
}

impl ConsoleOut {
    /// A console nobody listens to.
    pub fn null() -> Self {
        Self::over(None, Arc::default())
    }

    /// A console on a descriptor: a file, a pipe, a socket or a terminal, blocking or not.
    ///
    /// `stop_wanted` is set by whoever wants the vCPU threads back, before it signals them. The signal's handler must
    /// not be installed with `SA_RESTART`.
    pub fn descriptor(file: File, stop_wanted: Arc<AtomicBool>) -> io::Result<Self> {
        Ok(Self::over(Some(Box::new(Descriptor::new(file)?)), stop_wanted))
    }

    /// The same console, with `tap` watching it.
    #[must_use]
    pub fn with_tap(self, tap: Box<dyn ConsoleTap>) -> Self {
        Self { tap: Some(tap), ..self }
    }

    pub(super) fn over(sink: Option<Box<dyn Sink>>, stop_wanted: Arc<AtomicBool>) -> Self {
        Self { tap: None, sink, stop_wanted, pending: Vec::new(), is_held: false, effect: Effect::Continue }
    }

    /// The same console, which writes no more than `limits` allow.
    #[must_use]
    pub fn limited(self, limits: ConsoleLimits) -> Self {
        if limits == ConsoleLimits::default() {
            return self;
        }
        let sink = self.sink.map(|sink| Box::new(Limited::new(sink, limits)) as Box<dyn Sink>);
        Self { sink, ..self }
    }

    /// What comes next belongs together, and is written with [`Self::let_go`].
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Writes what was held.
    pub(super) fn let_go(&mut self) {
        self.is_held = false;
        self.push_or_keep();
    }

    /// With a stop wanted, one try that waits for nobody; otherwise as long as it takes.
    fn push_or_keep(&mut self) {
        let stop_wanted = self.stop_wanted.clone();
        self.push(|| match stop_wanted.load(Ordering::Acquire) {
            true => (Duration::ZERO, true),
            false => (SLICE, false),
        });
    }

    /// What the tap wanted since the last time this was asked.
    pub(super) fn take_effect(&mut self) -> Effect {
        std::mem::replace(&mut self.effect, Effect::Continue)
    }

    /// Writes what is kept, for at most `patience` whether a stop is wanted or not: how much is still kept.
    pub(super) fn drain(&mut self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        self.push(|| {
            let left = deadline.saturating_duration_since(Instant::now());
            (left.min(SLICE), left.is_zero())
        });
        self.pending.len()
    }

    /// Writes until all is gone or a wait has failed and `patience` (how long to wait, whether it is the last time)
    /// says that it was the last.
    fn push(&mut self, mut patience: impl FnMut() -> (Duration, bool)) {
        let Some(sink) = &mut self.sink else {
            self.pending.clear();
            return;
        };
        let mut done = 0;
        let failed = loop {
            let rest = &self.pending[done..];
            if rest.is_empty() {
                break None;
            }
            let (timeout, last) = patience();
            match write_once(sink.as_mut(), &rest[..rest.len().min(CHUNK)], timeout) {
                Ok(written) => done += written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => {
                    if last {
                        break None;
                    }
                }
                Err(e) => break Some(e),
            }
        };
        self.pending.drain(..done);
        if let Some(error) = failed {
            tracing::warn!(%error, "the guest's console output is lost from here on");
            self.sink = None;
            self.pending.clear();
        }
    }
}

/// One wait and one write. `WouldBlock` and `Interrupted` mean that nothing was written and that it may be tried again.
fn write_once(sink: &mut dyn Sink, bytes: &[u8], timeout: Duration) -> io::Result<usize> {
    if !sink.wait(timeout)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    match sink.write(bytes) {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            std::thread::sleep(BACK_OFF);
            Err(e)
        }
        other => other,
    }
}

impl Write for ConsoleOut {
    /// Takes all of `bytes`, always.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(tap) = &mut self.tap {
            for &byte in bytes {
                if let stop @ Effect::Stop(_) = tap.saw(byte) {
                    self.effect = stop;
                }
            }
        }
        self.pending.extend_from_slice(bytes);
        if !self.is_held {
            self.push_or_keep();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A descriptor, and the means to wait for it. The wait before each write costs a system call, and buys that a vCPU
/// thread blocks where a bounded wait ends rather than in `write(2)`, which only a signal at the right instant would.
struct Descriptor {
    file: File,
    /// None for what cannot be waited for because it never blocks (a regular file, `/dev/null`).
    writable: Option<Epoll>,
}

impl Descriptor {
    fn new(file: File) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let event = EpollEvent::new(EventSet::OUT, 0);
        let writable = match epoll.ctl(ControlOperation::Add, file.as_raw_fd(), event) {
            Ok(()) => Some(epoll),
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => None,
            Err(e) => return Err(e),
        };
        Ok(Self { file, writable })
    }
}

impl Sink for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let Some(epoll) = &self.writable else { return Ok(true) };
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        Ok(epoll.wait(milliseconds, &mut [EpollEvent::default()])? > 0)
    }
}
