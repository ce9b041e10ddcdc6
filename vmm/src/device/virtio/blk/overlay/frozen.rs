//! What an overlay was at one instant: layers that nobody writes to any more, to be copied while the guest runs.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use snapshot_format::overlay::{MAX_RUNS, OverlayIndex, OverlaySum};
use snapshot_format::pages::PAGE_BYTES;

use super::super::SECTOR;
use super::layer::{Layer, piece};
use super::sectors::Sectors;

/// Bytes that are copied at a time: whole pages.
const WINDOW: usize = 256 << 10;
/// Sectors of that.
const WINDOW_SECTORS: u64 = WINDOW as u64 / SECTOR;

/// Layers over a base.
#[derive(Clone, Debug)]
pub struct Frozen {
    pub(super) base: Arc<File>,
    /// The lowest first.
    pub(super) layers: Vec<Arc<Layer>>,
    /// Bytes of the disk.
    pub(super) len: u64,
}

/// Why a copy was not made.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The overlay or its base cannot be read.
    #[error("cannot read the overlay")]
    Read(#[source] io::Error),
    /// The copy cannot be written.
    #[error("cannot write the copy")]
    Write(#[source] io::Error),
    /// Whoever asked does not want it any more.
    #[error("the copy is not wanted any more")]
    Cancelled,
}

impl Frozen {
    /// Copies what all layers have into one sparse file, each sector to its own place. `go_on` is asked every 256 KiB.
    ///
    /// # Errors
    /// A file cannot be read or written, or the copy is not wanted any more.
    pub fn copy(&self, to: &File, go_on: &dyn Fn() -> bool) -> Result<OverlayIndex, CopyError> {
        self.copy_runs(self.runs(MAX_RUNS), to, go_on)
    }

    /// The same with these runs, which hold all sectors that any layer has.
    pub(super) fn copy_runs(
        &self,
        runs: Vec<Range<u64>>,
        to: &File,
        go_on: &dyn Fn() -> bool,
    ) -> Result<OverlayIndex, CopyError> {
        to.set_len(self.len).map_err(CopyError::Write)?;
        let mut copy = Copy {
            to,
            len: self.len,
            window: 0,
            is_clean: true,
            buffer: vec![0; WINDOW],
            sum: OverlaySum::default(),
        };
        for run in &runs {
            let mut at = run.start;
            while at < run.end {
                let window = at / WINDOW_SECTORS;
                let end = run.end.min((window + 1) * WINDOW_SECTORS);
                if window != copy.window {
                    if !go_on() {
                        return Err(CopyError::Cancelled);
                    }
                    copy.flush().map_err(CopyError::Write)?;
                    copy.window = window;
                }
                self.read(at..end, copy.room(at, end)).map_err(CopyError::Read)?;
                at = end;
            }
        }
        copy.flush().map_err(CopyError::Write)?;
        let index = OverlayIndex::new(self.len, runs, copy.sum);
        Ok(index.expect("runs of a set lie one behind the other, and no request reaches beyond the disk"))
    }

    /// All sectors that any layer has, in at most `most` runs: where there are more, what lies in the smallest gaps is
    /// taken along from the base.
    pub(super) fn runs(&self, most: usize) -> Vec<Range<u64>> {
        let mut all = Sectors::default();
        for layer in &self.layers {
            layer.sectors.runs().into_iter().for_each(|run| all.insert(run));
        }
        let mut runs = all.runs();
        let mut gap = 1;
        while runs.len() > most {
            gap *= 2;
            runs.dedup_by(|next, kept| {
                let is_near = next.start - kept.end < gap;
                if is_near {
                    kept.end = next.end;
                }
                is_near
            });
        }
        runs
    }

    /// Reads sectors, from whichever file has each.
    fn read(&self, sectors: Range<u64>, to: &mut [u8]) -> io::Result<()> {
        let mut at = sectors.start;
        while at < sectors.end {
            let (layer, end) = piece(self.layers.iter().map(Arc::as_ref), at..sectors.end);
            let file = layer.map_or(&self.base, |layer| &layer.file);
            let bytes = |sector: u64| ((sector - sectors.start) * SECTOR) as usize;
            file.read_exact_at(&mut to[bytes(at)..bytes(end)], at * SECTOR)?;
            at = end;
        }
        Ok(())
    }
}

/// A copy in the making: one window of the file, zero where nothing was put, is filled and then written.
struct Copy<'file> {
    to: &'file File,
    len: u64,
    /// Its number.
    window: u64,
    is_clean: bool,
    buffer: Vec<u8>,
    sum: OverlaySum,
}

impl Copy<'_> {
    /// The room of sectors of this window.
    fn room(&mut self, start: u64, end: u64) -> &mut [u8] {
        self.is_clean = false;
        let first = self.window * WINDOW_SECTORS;
        &mut self.buffer[((start - first) * SECTOR) as usize..((end - first) * SECTOR) as usize]
    }

    /// Writes the pages of the window that have data; the others stay holes.
    fn flush(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_clean, true) {
            return Ok(());
        }
        let first = self.window * (WINDOW as u64 / PAGE_BYTES);
        let (pages, _) = self.buffer.as_chunks::<{ PAGE_BYTES as usize }>();
        // The last window may reach beyond the disk, where there is nothing.
        let last = self.len.div_ceil(PAGE_BYTES);
        for (page, bytes) in (first..last).zip(pages) {
            if self.sum.add(page, bytes) {
                let at = page * PAGE_BYTES;
                // The last page may reach beyond the disk.
                let there = (self.len - at).min(PAGE_BYTES) as usize;
                self.to.write_all_at(&bytes[..there], at)?;
            }
        }
        self.buffer.fill(0);
        Ok(())
    }
}
