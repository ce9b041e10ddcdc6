//! Memory in layers: one file that has all of it, and files over it that have some pages of it anew.
//!
//! ```text
//!   second diff    . . . C . . . .      a page that is data here hides those below
//!   first diff     . B . B . . B .      a hole shows the one below
//!   base           A . A A A A A A      a hole here is zeros
//!   served         A B A C A A B A
//! ```
//!
//! A page is a layer's if the file system says that any byte of it is data: zeros that were written are zeros, and
//! hide what lies below. That is what Firecracker's diff snapshots are. A tool that fills holes in while it copies
//! makes another file of it; nobody can tell, so layers are copied with `cp --sparse=always` or not at all.

use std::ops::Range;
use std::sync::Arc;

use super::{Error, PageSource};

#[cfg(test)]
#[path = "layered_test.rs"]
mod layered_test;

/// A stack of layers, seen from above.
#[derive(Debug)]
pub struct Layered {
    /// The base first.
    layers: Vec<Arc<dyn PageSource>>,
    /// Ascending and without gaps, from 0 to the length: the start of each piece, and the layer that has it.
    pieces: Vec<(u64, usize)>,
    len: u64,
}

/// A layer: its pages, and which bytes of it, in whole pages and ascending, hide what lies below.
pub type Upper = (Arc<dyn PageSource>, Vec<Range<u64>>);

impl Layered {
    /// `base` under `uppers`, the lowest first, which messages call `what`.
    ///
    /// # Errors
    /// A layer is not as long as the base.
    pub fn new(base: Arc<dyn PageSource>, uppers: Vec<Upper>, what: &str) -> Result<Self, Error> {
        let len = base.len();
        let mut stack = Self { layers: vec![base], pieces: vec![(0, 0)], len };
        for (layer, extents) in uppers {
            let number = stack.layers.len();
            if layer.len() != len {
                let how = format!("layer {number} has {} bytes, the base {len}", layer.len());
                return Err(Error::Damaged { what: what.to_owned(), offset: len.min(layer.len()), how });
            }
            stack.pieces = over(&stack.pieces, len, &extents, number);
            stack.layers.push(layer);
        }
        Ok(stack)
    }

    /// The piece that `offset` lies in: its layer, and where it ends.
    fn piece(&self, offset: u64) -> (&dyn PageSource, u64) {
        let behind = self.pieces.partition_point(|(start, _)| *start <= offset);
        let end = self.pieces.get(behind).map_or(self.len, |(start, _)| *start);
        // The first piece starts at 0, so there is one before.
        (&*self.layers[self.pieces[behind - 1].1], end)
    }
}

/// `pieces` with those of `extents` given to `layer`.
fn over(pieces: &[(u64, usize)], len: u64, extents: &[Range<u64>], layer: usize) -> Vec<(u64, usize)> {
    let mut result: Vec<(u64, usize)> = Vec::with_capacity(pieces.len() + 2 * extents.len());
    let mut put = |start: u64, end: u64, layer: usize| {
        if start < end && result.last().is_none_or(|(_, before)| *before != layer) {
            result.push((start, layer));
        }
    };
    let mut extents = extents.iter().peekable();
    let ends = pieces[1..].iter().map(|(start, _)| *start).chain([len]);
    for (&(start, below), end) in pieces.iter().zip(ends) {
        let mut at = start;
        while at < end {
            let Some(extent) = extents.peek() else { break };
            put(at, extent.start.min(end), below);
            at = at.max(extent.start).min(end);
            put(at, extent.end.min(end), layer);
            at = at.max(extent.end.min(end));
            if extent.end <= end {
                extents.next();
            }
        }
        put(at, end, below);
    }
    if result.is_empty() { vec![(0, 0)] } else { result }
}

impl PageSource for Layered {
    fn len(&self) -> u64 {
        self.len
    }

    fn zeros(&self, offset: u64) -> u64 {
        let mut at = offset;
        while at < self.len {
            let (layer, end) = self.piece(at);
            let zeros = layer.zeros(at).min(end - at);
            at += zeros;
            if zeros == 0 || at < end {
                break;
            }
        }
        at - offset
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let (layer, end) = self.piece(at);
            let (head, tail) = rest.split_at_mut(((end - at) as usize).min(rest.len()));
            layer.read(at, head)?;
            at += head.len() as u64;
            rest = tail;
        }
        Ok(())
    }

    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let (layer, end) = self.piece(at);
            let (head, tail) = rest.split_at_mut(((end - at) as usize).min(rest.len()));
            if !layer.read_now(at, head)? {
                return Ok(false);
            }
            at += head.len() as u64;
            rest = tail;
        }
        Ok(true)
    }
}
