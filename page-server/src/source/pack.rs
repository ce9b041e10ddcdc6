//! Guest memory in a `memory-pack`: frames of 64 KiB, each decoded by itself when it is asked for.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use snapshot_format::pages::PackIndex;
use snapshot_format::pages::pack::{self, Coding, FRAME_BYTES, Frame};
use zstd::bulk::Decompressor;
use zstd::zstd_safe;

use super::{Error, Guarded, PageSource};

#[cfg(test)]
#[path = "pack_test.rs"]
mod pack_test;

/// A pack. Every frame's bytes are compared with their sum before they are decoded, so what comes out is what went in.
pub struct Pack {
    guarded: Guarded,
    index: PackIndex,
    /// What decoding needs, kept for whoever comes next; as many as have decoded at the same time.
    decoders: Mutex<Vec<Decoder>>,
}

/// One thread's means to decode a frame.
#[derive(Default)]
struct Decoder {
    zstd: Decompressor<'static>,
    stored: Vec<u8>,
    memory: Vec<u8>,
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guarded, index, decoders: _ } = self;
        f.debug_struct("Pack").field("guarded", guarded).field("pack_len", &index.pack_len()).finish()
    }
}

impl Pack {
    /// The pack `file`, which messages call `what`, with its index read and checked.
    ///
    /// # Errors
    /// It is no pack, or cannot be read.
    pub fn new(file: File, what: String) -> Result<Self, PackError> {
        let guarded = Guarded::new(file, what)?;
        let index = PackIndex::read(guarded.file())?;
        guarded.check()?;
        // From here on every frame is compared with its sum, whenever it is read.
        let guarded = guarded.vouched_for();
        Ok(Self { guarded, index, decoders: Mutex::default() })
    }

    /// Its index.
    pub fn index(&self) -> &PackIndex {
        &self.index
    }

    fn decoders(&self) -> MutexGuard<'_, Vec<Decoder>> {
        self.decoders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self, frame: Frame, how: impl fmt::Display) -> Error {
        Error::Damaged { what: self.guarded.what().to_owned(), offset: frame.offset, how: how.to_string() }
    }

    /// Fills `memory`, as long as what is in the frame.
    fn decode(
        &self,
        frame: Frame,
        decoder: &mut Decompressor<'_>,
        stored: &mut Vec<u8>,
        memory: &mut [u8],
    ) -> Result<(), Error> {
        match frame.coding {
            Coding::Zero => memory.fill(0),
            Coding::Raw => {
                self.guarded.read(frame.offset, memory)?;
                frame.check(memory).map_err(|error| self.damaged(frame, error))?;
            }
            Coding::Zstd => {
                stored.resize(frame.len, 0);
                self.guarded.read(frame.offset, stored)?;
                frame.check(stored).map_err(|error| self.damaged(frame, error))?;
                if zstd_safe::find_frame_compressed_size(stored) != Ok(frame.len) {
                    return Err(self
                        .damaged(frame, format_args!("frame {} is not one Zstandard frame", frame.number)));
                }
                // Bounded by `memory`, whatever the frame says of itself.
                match decoder.decompress_to_buffer(stored, memory) {
                    Ok(len) if len == frame.memory_bytes => {}
                    Ok(len) => {
                        let how = format_args!("frame {} gives {len} bytes", frame.number);
                        return Err(self.damaged(frame, how));
                    }
                    Err(error) => {
                        let how = format_args!("frame {} cannot be decoded: {error}", frame.number);
                        return Err(self.damaged(frame, how));
                    }
                }
            }
        }
        Ok(())
    }
}

impl PageSource for Pack {
    fn len(&self) -> u64 {
        self.index.file_pages().bytes()
    }

    fn zeros(&self, offset: u64) -> u64 {
        let mut at = offset;
        while at < self.len() {
            let frame = self.index.frame(at / FRAME_BYTES);
            if frame.coding != Coding::Zero {
                break;
            }
            at = frame.number * FRAME_BYTES + frame.memory_bytes as u64;
        }
        at - offset
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        // Not `self.decoders().pop()` in the `match`: the lock would be held all the while.
        let kept = self.decoders().pop();
        let mut decoder = kept.unwrap_or_default();
        let Decoder { zstd, stored, memory } = &mut decoder;
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let frame = self.index.frame(at / FRAME_BYTES);
            let within = (at % FRAME_BYTES) as usize;
            let (head, tail) = rest.split_at_mut((frame.memory_bytes - within).min(rest.len()));
            if head.len() == frame.memory_bytes {
                self.decode(frame, zstd, stored, head)?;
            } else {
                memory.resize(frame.memory_bytes, 0);
                self.decode(frame, zstd, stored, memory)?;
                head.copy_from_slice(&memory[within..within + head.len()]);
            }
            at += head.len() as u64;
            rest = tail;
        }
        self.decoders().push(decoder);
        Ok(())
    }
}

/// Why a pack cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Its file cannot be used.
    #[error(transparent)]
    File(#[from] Error),
    /// Its index is refused.
    #[error(transparent)]
    Index(#[from] pack::Error),
}

/// How much is worth the time: 3 is Zstandard's own choice, of which a core writes some hundred megabytes a second.
const LEVEL: i32 = 3;

/// What turns frames of memory into what a pack has of them.
pub(crate) struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    coded: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new() -> io::Result<Self> {
        let coded = Vec::with_capacity(zstd_safe::compress_bound(FRAME_BYTES as usize));
        Ok(Self { zstd: zstd::bulk::Compressor::new(LEVEL)?, coded })
    }

    /// What the pack has of `memory`, which is not all zero: itself if that is no longer.
    pub(crate) fn encode<'a>(&'a mut self, memory: &'a [u8]) -> io::Result<&'a [u8]> {
        self.coded.clear();
        let len = self.zstd.compress_to_buffer(memory, &mut self.coded)?;
        Ok(if len < memory.len() { &self.coded[..len] } else { memory })
    }
}
