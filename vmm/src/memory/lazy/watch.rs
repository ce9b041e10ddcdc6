//! The thread that watches over the page server, for as long as a page is missing.
//!
//! It reads what the server says, asks for a page now and then to see that it comes ([`super::probe`]), turns to the next
//! server when the connection ends, and knows when the guest is lost. A server that was not written for us says nothing,
//! and is watched as well by what it delivers.
//!
//! A page is asked for only while a thread waits for one. A page that nobody wants would stay in memory: 1,000 idle guests
//! would fill themselves from their server at 1,000 windows a second.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use snapshot_format::handoff::{FromServer, MAX_LINE_BYTES};
use snapshot_format::pages::PAGE_BYTES;

use super::pages::Pages;
use super::probe::Prober;
use super::{Cause, Error, Lost, Server, Signal, connect, handover};
use crate::memory::OwnRun;
use crate::sys::signals;

/// When it is looked for the first time whether a thread waits: by then a server that works has delivered some pages.
const FIRST_PROBE: Duration = Duration::from_millis(100);
/// How often it is looked, and a page asked for if one does.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// For how long somebody has to be found waiting at every look until all pages are asked for, one after the other: a server
/// may deliver every page but the one that is wanted.
const SUSPICIOUS: Duration = Duration::from_secs(2);
/// What is asked for once the server says that it has delivered everything.
const REST_BYTES: usize = 2 << 20;
/// How soon another server is looked for, at first and in the end.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Starts it. `server` has been given `handshake`.
pub(super) fn start(
    pages: Arc<Pages>,
    server: Server,
    handshake: Vec<u8>,
    timeout: Duration,
    stop: Arc<Signal>,
) -> Result<JoinHandle<()>, Error> {
    let Server { stream, path } = server;
    stream.set_nonblocking(true).map_err(Error::Watch)?;
    let now = Instant::now();
    let watch = Watch {
        prober: Prober::start(&pages)?,
        pages,
        handshake,
        timeout,
        stop,
        path,
        stream: Some(stream),
        said: Vec::new(),
        says_complete: false,
        serves: false,
        since: now,
        gone: None,
        next_probe: now + FIRST_PROBE,
        waited_for: None,
        next_try: (now, RETRY.0),
    };
    let builder = thread::Builder::new().name("page-watch".to_owned()).stack_size(256 << 10);
    let run = move || {
        signals::leave_to_others();
        watch.run();
    };
    builder.spawn(run).map_err(Error::Watch)
}

/// How the watch ends.
enum End {
    /// Nobody wants the memory any more.
    Stopped,
    /// No page is missing.
    Complete,
    Lost(Lost),
}

/// What is asked for of a run that is missing: its last page. The next time, the page before what was delivered around
/// this one is asked for. A server that delivers more to a guest that walks forward must not take these pages for a walk.
fn last_page(OwnRun { region, bytes }: OwnRun) -> OwnRun {
    let start = bytes.end.saturating_sub(PAGE_BYTES as usize).max(bytes.start);
    OwnRun { region, bytes: start..bytes.end }
}

struct Watch {
    // Configuration.
    timeout: Duration,
    path: Option<PathBuf>,
    handshake: Vec<u8>,
    // Connections.
    pages: Arc<Pages>,
    prober: Prober,
    stop: Arc<Signal>,
    stream: Option<UnixStream>,
    /// A line of which the end is missing.
    said: Vec<u8>,
    says_complete: bool,
    /// It has said that it serves.
    serves: bool,
    /// When this server was given the memory.
    since: Instant,
    /// When the last server that was seen to deliver went, until the next one is, or stays while no thread waits.
    gone: Option<Instant>,
    next_probe: Instant,
    /// Since when somebody was found waiting at every look.
    waited_for: Option<Instant>,
    /// When another server is looked for, and how much later once more.
    next_try: (Instant, Duration),
}

impl Watch {
    fn run(mut self) {
        let end = loop {
            match self.step() {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(error) => {
                    let cause = Cause::Blind(error.to_string());
                    break self.pages.lost(cause).map_or(End::Complete, End::Lost);
                }
            }
        };
        match end {
            End::Complete => self.pages.complete(),
            End::Lost(lost) => self.pages.lose(lost),
            End::Stopped => {
                if let Some((run, _)) = self.prober.asked() {
                    self.pages.give_up(run);
                }
            }
        }
        self.prober.end();
    }

    /// Waits for whatever comes first, and acts on it.
    fn step(&mut self) -> io::Result<Option<End>> {
        if self.wait()? {
            return Ok(Some(End::Stopped));
        }
        if let Some(end) = self.hear() {
            return Ok(Some(end));
        }
        if let Some((run, answer)) = self.prober.take() {
            self.answered(&run, answer);
        }
        let now = Instant::now();
        if let Some(end) = self.late(now) {
            return Ok(Some(end));
        }
        if self.stream.is_none() && self.next_try.0 <= now {
            self.reconnect(now);
        }
        if self.prober.asked().is_none() && self.next_probe <= now {
            return self.probe(now);
        }
        Ok(None)
    }

    /// Gives back whether it is to stop.
    fn wait(&self) -> io::Result<bool> {
        let wait = self.next_deadline().saturating_duration_since(Instant::now());
        // Rounded up, so that it does not spin through the last bit.
        let wait = Timespec::try_from(wait + Duration::from_millis(1)).unwrap_or_default();
        let mut fds = vec![
            PollFd::new(&self.stop.0, PollFlags::IN),
            PollFd::new(&self.prober.answered().0, PollFlags::IN),
        ];
        if let Some(stream) = &self.stream {
            fds.push(PollFd::new(stream, PollFlags::IN));
        }
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(!fds[0].revents().is_empty())
    }

    fn next_deadline(&self) -> Instant {
        let probe = match self.prober.asked() {
            Some(_) => None,
            None => Some(self.next_probe),
        };
        let retry = self.stream.is_none().then_some(self.next_try.0);
        let soonest = [probe, retry, self.deadline()].into_iter().flatten().min();
        soonest.unwrap_or_else(|| Instant::now() + PROBE_EVERY)
    }

    /// When whatever is waited for now is late.
    fn deadline(&self) -> Option<Instant> {
        let asked = self.prober.asked().map(|(_, at)| *at);
        match (self.stream.is_some(), self.gone) {
            (false, Some(gone)) => Some(gone + self.timeout),
            // A server that has just taken over is given its time, but one after the other does not make it more.
            (true, Some(gone)) => {
                asked.map(|at| (at.max(self.since) + self.timeout).min(gone + 2 * self.timeout))
            }
            (_, None) => asked.map(|at| at.max(self.since) + self.timeout),
        }
    }

    fn late(&self, now: Instant) -> Option<End> {
        if self.deadline().is_none_or(|at| now < at) {
            return None;
        }
        let cause = match self.stream {
            Some(_) => Cause::Late(self.timeout),
            None => Cause::NotReplaced(self.timeout),
        };
        Some(match self.prober.asked() {
            Some((run, _)) => End::Lost(Lost { gpa: self.pages.gpa(run), cause }),
            None => self.lost(cause),
        })
    }

    /// The end, if nothing more is delivered.
    fn lost(&self, cause: Cause) -> End {
        self.pages.lost(cause).map_or(End::Complete, End::Lost)
    }

    /// Asks for a page that is missing, if a thread waits for one. If none is missing, nobody is needed any more.
    fn probe(&mut self, now: Instant) -> io::Result<Option<End>> {
        // Nobody is waiting for this thread's own sake: nothing is asked for now.
        let waits = self.pages.waits();
        self.waited_for = if waits == Some(true) { self.waited_for.or(Some(now)) } else { None };
        let is_suspicious = self.waited_for.is_some_and(|since| now - since >= SUSPICIOUS);
        // A server that took over while no thread waits is not seen to deliver. One that stays is taken for good, or the
        // first fault, an hour later, would be late at once. One that hangs up at once is not.
        if waits == Some(false) && self.stream.is_some() && now - self.since >= PROBE_EVERY {
            self.gone = None;
        }
        let Some(missing) = self.pages.missing(None, REST_BYTES)? else { return Ok(Some(End::Complete)) };
        let (ask, every) = match (self.says_complete, is_suspicious) {
            (true, _) => (Some(missing), Duration::ZERO),
            (false, true) => (Some(last_page(missing)), Duration::ZERO),
            // Where the kernel does not tell, a page each second is the price of noticing that a server has stopped.
            (false, false) => (waits.unwrap_or(true).then(|| last_page(missing)), PROBE_EVERY),
        };
        if let Some(run) = ask {
            self.pages.note_probe(&run);
            self.prober.ask(run);
        }
        self.next_probe = now + every;
        Ok(None)
    }

    fn answered(&mut self, run: &OwnRun, answer: io::Result<()>) {
        match answer {
            Ok(()) if self.stream.is_some() => self.gone = None,
            Ok(()) => {}
            // A kernel that cannot be asked that way, or one that is short of memory: the guest finds out as well.
            Err(error) => tracing::debug!(gpa = self.pages.gpa(run), %error, "a page could not be asked for"),
        }
    }

    /// Reads what the server says, once: one that never stops is not to keep the watch from everything else.
    fn hear(&mut self) -> Option<End> {
        let mut bytes = [0; MAX_LINE_BYTES];
        match self.stream.as_mut()?.read(&mut bytes) {
            Ok(0) => return self.gone("it has closed the connection"),
            Ok(read) => self.said.extend_from_slice(&bytes[..read]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return self.gone("the connection has failed"),
        }
        while let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.said.drain(..=end).collect();
            match FromServer::parse(&line[..end]) {
                Ok(message) => {
                    if let Some(end) = self.told(message) {
                        return Some(end);
                    }
                }
                Err(_) => return self.gone("it has said what is no message"),
            }
        }
        if self.said.len() > MAX_LINE_BYTES {
            return self.gone("it has said what is no message");
        }
        None
    }

    fn told(&mut self, message: FromServer) -> Option<End> {
        match message {
            FromServer::Zeros(told) if self.serves => {
                if let Err(error) = self.pages.keep_told_zeros(&told) {
                    tracing::debug!(%error, "the image's zeros are left to the page server");
                }
                None
            }
            // Only after it has said that it serves, and so what it knows.
            FromServer::Zeros(_) => self.gone("it has said what is no message"),
            FromServer::Serving => {
                self.serves = true;
                // They are delivered as well, only later.
                if let Err(error) = self.pages.keep_zeros() {
                    tracing::debug!(%error, "the image's zeros are left to the page server");
                }
                None
            }
            FromServer::Refused { cause } => Some(self.lost(Cause::Refused(cause))),
            FromServer::Lost { offset, cause } => {
                Some(End::Lost(Lost { gpa: self.pages.gpa_of(offset), cause: Cause::Told(cause) }))
            }
            FromServer::Complete => {
                self.says_complete = true;
                self.next_probe = Instant::now();
                None
            }
        }
    }

    /// The connection has ended: that of a server which nobody needs any more, or of one that has to be replaced.
    fn gone(&mut self, how: &str) -> Option<End> {
        self.stream = None;
        self.said.clear();
        self.says_complete = false;
        self.serves = false;
        let Some(path) = &self.path else { return Some(self.lost(Cause::Gone)) };
        if self.pages.lost(Cause::Gone).is_none() {
            return Some(End::Complete);
        }
        let now = Instant::now();
        if self.gone.is_none() {
            tracing::warn!(path = %path.display(), "the page server has gone ({how}); looking for another");
            self.next_try = (now, RETRY.0);
        }
        self.gone.get_or_insert(now);
        None
    }

    /// Hands everything over once more, to whoever listens there by now.
    fn reconnect(&mut self, now: Instant) {
        let (_, pause) = self.next_try;
        self.next_try = (now + pause, (pause * 2).min(RETRY.1));
        let Some(path) = &self.path else { return };
        let taken = connect::now(path).and_then(|stream| {
            handover::hand_over(&stream, &self.handshake, self.pages.uffd())?;
            Ok(stream)
        });
        match taken {
            Ok(stream) => {
                tracing::info!(path = %path.display(), "another page server has taken over");
                self.stream = Some(stream);
                self.since = now;
                self.next_probe = now;
                // Faults that the one before had read and not answered are raised again.
                self.pages.wake();
            }
            Err(error) => tracing::debug!(path = %path.display(), %error, "no page server yet"),
        }
    }
}
