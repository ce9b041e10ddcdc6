//! A source for tests: bytes in memory, every read counted, failures on demand.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Error, PageSource};

/// Bytes in memory. Knows no zeros unless it is told to.
#[derive(Debug, Default)]
pub(crate) struct Mock {
    pub(crate) bytes: Vec<u8>,
    pub(crate) reads: AtomicUsize,
    pub(crate) knows_zeros: bool,
    /// Whether nothing has to be waited for.
    pub(crate) is_here: bool,
    /// What the next reads end with, the last first.
    pub(crate) failures: Mutex<Vec<Error>>,
}

impl Mock {
    /// `pages` pages: each full of its number.
    pub(crate) fn numbered(pages: u64) -> Self {
        let bytes = (0..pages).flat_map(|page| [page as u8; 4096]).collect();
        Self { bytes, ..Self::default() }
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    pub(crate) fn io_error() -> Error {
        Error::Read { what: "mock".into(), offset: 0, source: std::io::ErrorKind::TimedOut.into() }
    }
}

impl PageSource for Mock {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn zeros(&self, offset: u64) -> u64 {
        let pages = self.bytes[offset as usize..].chunks(4096);
        let zeros = pages.take_while(|page| page.iter().all(|byte| *byte == 0)).count() as u64 * 4096;
        if self.knows_zeros { zeros } else { 0 }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(error) = self.failures.lock().unwrap().pop() {
            return Err(error);
        }
        buffer.copy_from_slice(&self.bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }

    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        if self.is_here { self.read(offset, buffer).map(|()| true) } else { Ok(false) }
    }
}
