//! What a process prints, kept whole, and waited for.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::patience::scaled;

/// Everything that came out of one descriptor, read by a thread so that the process never waits for us.
pub struct Stream {
    heard: Arc<Heard>,
    /// How much of it has been looked at.
    seen: usize,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    text: Mutex<Text>,
    more: Condvar,
}

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    at_end: bool,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Reads `from` to its end.
    pub fn read(mut from: impl Read + Send + 'static) -> Self {
        let heard = Arc::new(Heard::default());
        let into = Arc::clone(&heard);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let read = from.read(&mut buffer).unwrap_or(0);
                let mut text = into.lock();
                text.bytes.extend_from_slice(&buffer[..read]);
                text.at_end = read == 0;
                into.more.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Self { heard, seen: 0, reader: Some(reader) }
    }

    /// A stream that nobody reads.
    pub fn none() -> Self {
        let heard = Heard::default();
        heard.lock().at_end = true;
        Self { heard: Arc::new(heard), seen: 0, reader: None }
    }

    /// Everything so far, as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.heard.lock().bytes.clone()
    }

    /// Everything so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().bytes).into_owned()
    }

    /// Waits for `text` behind what was waited for before; gives everything up to and with it. `None` if it does not
    /// come in time, or cannot come any more.
    pub fn wait_for(&mut self, text: &str, within: Duration) -> Option<String> {
        let wanted = text.as_bytes();
        let deadline = Instant::now() + scaled(within);
        let mut heard = self.heard.lock();
        let mut from = self.seen;
        loop {
            let found = heard.bytes[from..].windows(wanted.len()).position(|window| window == wanted);
            if let Some(at) = found {
                let end = from + at + wanted.len();
                let passed = String::from_utf8_lossy(&heard.bytes[self.seen..end]).into_owned();
                self.seen = end;
                return Some(passed);
            }
            // The next look need not go over the same bytes again.
            from = from.max(heard.bytes.len().saturating_sub(wanted.len().saturating_sub(1)));
            let left = deadline.saturating_duration_since(Instant::now());
            if heard.at_end || left.is_zero() {
                return None;
            }
            heard = self.heard.more.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The next whole line, without its end.
    pub fn wait_line(&mut self, within: Duration) -> Option<String> {
        self.wait_for("\n", within).map(|line| line.trim_end().to_owned())
    }

    /// Waits until the other end is closed; whether it was in time.
    pub fn wait_end(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + scaled(within);
        let mut heard = self.heard.lock();
        while !heard.at_end {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            heard = self.heard.more.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(heard);
        if let Some(reader) = self.reader.take() {
            // It has nothing left to do, and nothing in it panics.
            let _ = reader.join();
        }
        true
    }
}
