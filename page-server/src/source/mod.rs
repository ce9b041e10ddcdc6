//! Where guest memory comes from: a file, a stack of layers, a compressed pack, and what stands in front of them.
//!
//! A source is shared by every session that is served from it, so it is `Sync` and takes offsets rather than a
//! position. Offsets and lengths are of the memory file, in whole pages. A source never gives wrong bytes: what it
//! cannot vouch for is an error.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

mod cached;
mod checked;
mod file;
mod guarded;
mod layered;
pub(crate) mod measured;
mod pack;
pub(crate) mod pool;
mod retry;
mod turns;

#[cfg(test)]
pub(crate) mod mock;

pub use cached::{BLOCK_BYTES, BlockCache, Cached};
pub use checked::Checked;
pub use file::MemoryFile;
pub use guarded::Guarded;
pub use layered::{Layered, Upper};
pub use measured::{Counts, Measured};
pub(crate) use pack::Encoder;
pub use pack::{Pack, PackError};
pub use retry::{Policy, Retry};

/// A memory file, wherever it is.
#[expect(clippy::len_without_is_empty, reason = "the length of a file, and nobody asks whether it is 0")]
pub trait PageSource: Debug + Send + Sync {
    /// Its length in bytes, a multiple of 4096.
    fn len(&self) -> u64;

    /// How many bytes from `offset` on are known to be zero without reading them: a multiple of 4096; 0 if the page
    /// there has data or nobody knows.
    fn zeros(&self, offset: u64) -> u64;

    /// Fills `buffer` with the bytes from `offset` on. Call only with whole pages within [`Self::len`].
    ///
    /// # Errors
    /// They cannot be had, or are not what they should be. `buffer` holds anything then.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error>;

    /// The same for bytes that nobody has asked for: what cannot be had at once is not waited for.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn read_ahead(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.read(offset, buffer)
    }

    /// The same if that takes no waiting, neither for a disk nor for another thread. If not, or if nobody knows, it is
    /// false, and `buffer` holds anything.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn read_now(&self, _offset: u64, _buffer: &mut [u8]) -> Result<bool, Error> {
        Ok(false)
    }
}

impl<S: PageSource + ?Sized> PageSource for Arc<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn zeros(&self, offset: u64) -> u64 {
        (**self).zeros(offset)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        (**self).read(offset, buffer)
    }

    fn read_ahead(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        (**self).read_ahead(offset, buffer)
    }

    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        (**self).read_now(offset, buffer)
    }
}

/// Why bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error("cannot read {what} at offset {offset:#x}")]
    Read {
        /// What is read: a path.
        what: String,
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bytes are not those that were saved. Never tried again.
    #[error("{what} is damaged at offset {offset:#x}: {how}")]
    Damaged {
        /// What is read.
        what: String,
        /// Where.
        offset: u64,
        /// What does not fit.
        how: String,
    },
    /// The file is not the one that was opened any more. Never tried again.
    #[error("{what} was changed while it was served")]
    Changed {
        /// What is read.
        what: String,
    },
}
