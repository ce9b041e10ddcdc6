//! Decoded blocks in front of a source for which every read is work. One bounded cache serves all sources and sessions.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use snapshot_format::pages::is_zero;

use super::{Error, PageSource};

#[cfg(test)]
#[path = "cached_test.rs"]
mod cached_test;

/// Bytes of a block, the last of a source may be shorter.
pub const BLOCK_BYTES: u64 = 64 << 10;

/// What [`BlockCache`] is asked for: a source and the number of a block.
type Key = (u64, u64);

/// Blocks of several sources, those used last.
#[derive(Debug)]
pub struct BlockCache {
    state: Mutex<State>,
    /// Told when a fetch has ended, however.
    fetched: Condvar,
    capacity: u64,
    next_source: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<Key, Slot>,
    /// By the time of last use.
    order: BTreeMap<u64, Key>,
    now: u64,
    /// Of the blocks that are there.
    bytes: u64,
}

#[derive(Debug)]
enum Slot {
    /// Somebody fetches it.
    Fetching,
    Here {
        block: Arc<[u8]>,
        used: u64,
    },
}

impl BlockCache {
    /// A cache for at most `capacity` bytes, and for one block at least.
    pub fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            fetched: Condvar::new(),
            capacity,
            next_source: AtomicU64::new(0),
        })
    }

    /// Bytes in it.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// A fetch that panics leaves nothing half done under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block, if it is there; no more recently used for it.
    fn peek(&self, key: Key) -> Option<Arc<[u8]>> {
        match self.lock().slots.get(&key) {
            Some(Slot::Here { block, .. }) => Some(Arc::clone(block)),
            _ => None,
        }
    }

    /// The block, if it is there, from now on the one used last.
    fn recent(&self, key: Key) -> Option<Arc<[u8]>> {
        let mut state = self.lock();
        matches!(state.slots.get(&key), Some(Slot::Here { .. })).then(|| state.used(key))
    }

    /// The block, by `fetch` if it is not there. Of several that miss the same block, one fetches it, and the others
    /// wait for it; if it fails, the next one tries.
    fn get(&self, key: Key, fetch: impl FnOnce() -> Result<Arc<[u8]>, Error>) -> Result<Arc<[u8]>, Error> {
        let mut state = self.lock();
        loop {
            match state.slots.get(&key) {
                Some(Slot::Here { .. }) => {
                    return Ok(state.used(key));
                }
                Some(Slot::Fetching) => {
                    state = self.fetched.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                None => break,
            }
        }
        state.slots.insert(key, Slot::Fetching);
        drop(state);
        let claim = Claim { cache: self, key };
        let block = fetch()?;
        let mut state = self.lock();
        state.put(key, Arc::clone(&block), self.capacity);
        drop(state);
        // Finds the block there, and wakes those who wait for it.
        drop(claim);
        Ok(block)
    }
}

impl State {
    /// The block that is there, from now on the one used last.
    fn used(&mut self, key: Key) -> Arc<[u8]> {
        self.now += 1;
        let Some(Slot::Here { block, used }) = self.slots.get_mut(&key) else {
            unreachable!("the caller has seen it there")
        };
        self.order.remove(used);
        *used = self.now;
        self.order.insert(self.now, key);
        Arc::clone(block)
    }

    /// Puts a block in, and those that were not used for longest out.
    fn put(&mut self, key: Key, block: Arc<[u8]>, capacity: u64) {
        self.now += 1;
        self.bytes += block.len() as u64;
        self.order.insert(self.now, key);
        self.slots.insert(key, Slot::Here { block, used: self.now });
        while self.bytes > capacity && self.order.len() > 1 {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some(Slot::Here { block, .. }) = self.slots.remove(&oldest) {
                self.bytes -= block.len() as u64;
            }
        }
    }

    /// Forgets all blocks of a source.
    fn forget(&mut self, source: u64) {
        let mut freed = 0;
        self.slots.retain(|key, slot| match slot {
            Slot::Here { block, .. } if key.0 == source => {
                freed += block.len() as u64;
                false
            }
            _ => true,
        });
        self.order.retain(|_, key| key.0 != source);
        self.bytes -= freed;
    }
}

/// The duty of whoever fetches a block: if he fails or panics, somebody else has to.
struct Claim<'a> {
    cache: &'a BlockCache,
    key: Key,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        if matches!(state.slots.get(&self.key), Some(Slot::Fetching)) {
            state.slots.remove(&self.key);
        }
        self.cache.fetched.notify_all();
    }
}

/// A source behind a cache.
#[derive(Debug)]
pub struct Cached<S> {
    inner: S,
    cache: Arc<BlockCache>,
    /// Its number in the cache.
    source: u64,
}

impl<S: PageSource> Cached<S> {
    /// `inner`, with what was read of it in `cache`.
    pub fn new(inner: S, cache: Arc<BlockCache>) -> Self {
        let source = cache.next_source.fetch_add(1, Ordering::Relaxed);
        Self { inner, cache, source }
    }

    /// What is behind the cache.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn block(&self, number: u64) -> Result<Arc<[u8]>, Error> {
        self.cache.get((self.source, number), || {
            let start = number * BLOCK_BYTES;
            let mut bytes = vec![0; BLOCK_BYTES.min(self.inner.len() - start) as usize];
            self.inner.read(start, &mut bytes)?;
            Ok(bytes.into())
        })
    }
}

impl<S> Drop for Cached<S> {
    fn drop(&mut self) {
        self.cache.lock().forget(self.source);
    }
}

impl<S: PageSource> PageSource for Cached<S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    /// What the source knows, and what a block that is here shows.
    fn zeros(&self, offset: u64) -> u64 {
        let known = self.inner.zeros(offset);
        if known > 0 {
            return known;
        }
        let Some(block) = self.cache.peek((self.source, offset / BLOCK_BYTES)) else { return 0 };
        let pages = block[(offset % BLOCK_BYTES) as usize..].chunks(4096);
        pages.take_while(|page| is_zero(page)).map(|page| page.len() as u64).sum()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let within = (at % BLOCK_BYTES) as usize;
            let (head, tail) = rest.split_at_mut((BLOCK_BYTES as usize - within).min(rest.len()));
            let block = self.block(at / BLOCK_BYTES)?;
            head.copy_from_slice(&block[within..within + head.len()]);
            at += head.len() as u64;
            rest = tail;
        }
        Ok(())
    }

    /// Of blocks that are here.
    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let within = (at % BLOCK_BYTES) as usize;
            let (head, tail) = rest.split_at_mut((BLOCK_BYTES as usize - within).min(rest.len()));
            let Some(block) = self.cache.recent((self.source, at / BLOCK_BYTES)) else { return Ok(false) };
            head.copy_from_slice(&block[within..within + head.len()]);
            at += head.len() as u64;
            rest = tail;
        }
        Ok(true)
    }
}
