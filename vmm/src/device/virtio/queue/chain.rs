//! A request: the buffers of one chain of descriptors, read once and checked.

use std::ops::Range;

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions, VolatileSlice};

use super::Broken;
use crate::memory::GuestRam;

/// The most buffers that a request may have: what the kernel takes in one call (`UIO_MAXIOV`), and more than any queue
/// of ours is long, which is what a driver may use (virtio 1.2, 2.7.5.3.1).
const MAX_BUFFERS: usize = 1024;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    head: u16,
    /// What the driver sends.
    pub readable: Buffers,
    /// Where the answer goes.
    pub writable: Buffers,
}

impl Chain {
    /// Follows the descriptors of `chain`.
    ///
    /// # Errors
    /// The chain does not end, leaves its table, has more buffers than allowed, buffers outside of guest memory, or
    /// ones to read behind ones to write.
    pub(super) fn read(chain: DescriptorChain<&GuestRam>, memory: &GuestRam) -> Result<Self, Broken> {
        let head = chain.head_index();
        let broken = |problem| Broken::Chain { head, problem };
        let mut read = Self { head, readable: Buffers::default(), writable: Buffers::default() };
        // The iterator bounds its steps by the table and the sum of lengths by 2^32, and ends without a word when
        // something is wrong; but then the descriptor before has announced another one, or there was none at all.
        let mut is_whole = false;
        for descriptor in chain {
            if read.readable.count() + read.writable.count() == MAX_BUFFERS {
                return Err(broken("has too many buffers"));
            }
            let (gpa, len) = (descriptor.addr(), descriptor.len());
            if !memory.check_range(gpa, len as usize, Permissions::ReadWrite) {
                return Err(broken("has a buffer outside of guest memory"));
            }
            if descriptor.is_write_only() {
                read.writable.push(gpa, len);
            } else if read.writable.count() == 0 {
                read.readable.push(gpa, len);
            } else {
                return Err(broken("has a buffer to read behind one to write"));
            }
            is_whole = !descriptor.has_next();
        }
        if is_whole { Ok(read) } else { Err(broken("does not end, or has no beginning")) }
    }

    /// Its first descriptor, by which the driver knows it.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }
}

/// Buffers in guest memory that are read or written as if they were one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    /// Address and length of each. They lie in guest memory, and their lengths add up to less than 2^32.
    buffers: Vec<(GuestAddress, u32)>,
}

impl Buffers {
    fn push(&mut self, gpa: GuestAddress, len: u32) {
        self.buffers.push((gpa, len));
    }

    /// How many buffers there are.
    pub(crate) fn count(&self) -> usize {
        self.buffers.len()
    }

    /// All bytes together.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.buffers.iter().map(|(_, len)| len).sum()
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts of the buffers that bytes `range` of the whole lie in. What is beyond the end is left out.
    pub fn parts(&self, range: Range<u32>) -> impl Iterator<Item = (GuestAddress, usize)> {
        let mut start = 0;
        self.buffers.iter().filter_map(move |&(gpa, len)| {
            let (from, to) = (range.start.max(start), range.end.min(start + len));
            let part =
                (from < to).then(|| (GuestAddress(gpa.0 + u64::from(from - start)), (to - from) as usize));
            start += len;
            part
        })
    }

    /// Bytes `range` of the whole, as slices of guest memory.
    ///
    /// # Errors
    /// None that was ever seen: the buffers were checked.
    pub fn slices<'memory>(
        &self,
        memory: &'memory GuestRam,
        range: Range<u32>,
    ) -> Result<Vec<VolatileSlice<'memory>>, Broken> {
        let mut slices = Vec::new();
        for (gpa, len) in self.parts(range) {
            for slice in memory.get_slices(gpa, len, Permissions::ReadWrite).map_err(Broken::Buffer)? {
                slices.push(slice.map_err(Broken::Buffer)?);
            }
        }
        Ok(slices)
    }

    /// Copies the bytes from `at` on into `to`; gives back how many there were.
    ///
    /// # Errors
    /// As [`Self::slices`].
    pub fn read(&self, memory: &GuestRam, at: u32, to: &mut [u8]) -> Result<usize, Broken> {
        let mut done = 0;
        for (gpa, len) in self.parts(at..at.saturating_add(to.len() as u32)) {
            memory.read_slice(&mut to[done..done + len], gpa).map_err(Broken::Buffer)?;
            done += len;
        }
        Ok(done)
    }

    /// Copies `bytes` into the buffers from byte `at` on; gives back how many fitted.
    ///
    /// # Errors
    /// As [`Self::slices`].
    pub fn write(&self, memory: &GuestRam, at: u32, bytes: &[u8]) -> Result<usize, Broken> {
        let mut done = 0;
        for (gpa, len) in self.parts(at..at.saturating_add(bytes.len() as u32)) {
            memory.write_slice(&bytes[done..done + len], gpa).map_err(Broken::Buffer)?;
            done += len;
        }
        Ok(done)
    }
}
