//! One thread at a time for each chunk, and any number of chunks at once.

#[cfg(test)]
#[path = "turns_test.rs"]
mod turns_test;

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many buffers are kept for whoever comes next.
const KEPT: usize = 4;

/// Who reads which chunk.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    /// Told when a turn has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: HashSet<u64>,
    buffers: Vec<Vec<u8>>,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else reads this chunk. What is in the buffer is anything.
    pub(super) fn take(&self, chunk: u64) -> Turn<'_> {
        let mut state = self.lock();
        while !state.taken.insert(chunk) {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let buffer = state.buffers.pop().unwrap_or_default();
        Turn { turns: self, chunk, buffer }
    }
}

/// A chunk that nobody else reads, and what it may be read into.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    chunk: u64,
    buffer: Vec<u8>,
}

impl Deref for Turn<'_> {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.buffer
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        state.taken.remove(&self.chunk);
        if state.buffers.len() < KEPT {
            state.buffers.push(std::mem::take(&mut self.buffer));
        }
        drop(state);
        self.turns.ended.notify_all();
    }
}
