//! What an overlay was at one instant: layers that nobody writes to any more, to be copied while the guest runs.
//!
//! A copy goes window by window. What a window holds is read once for its checksum, which its layer then remembers: the
//! next copy leaves a window that one layer alone has to the kernel, which shares blocks where the file system can.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use snapshot_format::overlay::{MAX_RUNS, OverlayIndex, OverlaySum};
use snapshot_format::pages::PAGE_BYTES;

use super::super::SECTOR;
use super::layer::{Layer, Sums, piece};
use super::merge::Merge;
use super::sectors::Sectors;
use super::transfer::Transfer;

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
    /// What is to be done about layers that have become too many.
    pub(super) merge: Option<Merge>,
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

/// Sectors that one file has. `None`: the base.
type Piece<'layer> = (Option<&'layer Layer>, Range<u64>);

impl Frozen {
    /// Copies what all layers have into one sparse file, each sector to its own place. `go_on` is asked every 256 KiB.
    ///
    /// # Errors
    /// A file cannot be read or written, or the copy is not wanted any more.
    pub fn copy(&self, to: &File, go_on: &dyn Fn() -> bool) -> Result<OverlayIndex, CopyError> {
        self.copy_runs(self.runs(MAX_RUNS), to, go_on)
    }

    /// Makes one layer of those that snapshots have left, for the overlay to take into use, if they are too many. The
    /// guest may run.
    ///
    /// # Errors
    /// As [`Self::copy`]. The overlay goes on with the layers that it has.
    pub fn merge(&self, go_on: &dyn Fn() -> bool) -> Result<(), CopyError> {
        self.merge.as_ref().map_or(Ok(()), |merge| merge.run(self, go_on))
    }

    /// The same with these runs, which hold all sectors that any layer has.
    pub(super) fn copy_runs(
        &self,
        runs: Vec<Range<u64>>,
        to: &File,
        go_on: &dyn Fn() -> bool,
    ) -> Result<OverlayIndex, CopyError> {
        let mut sum = OverlaySum::default();
        self.copy_windows(&runs, to, go_on)?.into_values().for_each(|window| sum.join(window));
        let index = OverlayIndex::new(self.len, runs, sum);
        Ok(index.expect("runs of a set lie one behind the other, and no request reaches beyond the disk"))
    }

    /// Copies these runs, and says what each window's checksum is.
    pub(super) fn copy_windows(
        &self,
        runs: &[Range<u64>],
        to: &File,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Sums, CopyError> {
        to.set_len(self.len).map_err(CopyError::Write)?;
        let mut transfer = Transfer::new(to);
        let mut buffer = vec![0; WINDOW];
        let mut sums = Sums::new();
        for (window, pieces) in self.windows(runs) {
            if !go_on() {
                return Err(CopyError::Cancelled);
            }
            let sum = self.copy_window(window, &pieces, &mut buffer, &mut transfer)?;
            sums.insert(window, sum);
        }
        transfer.finish()?;
        Ok(sums)
    }

    /// The windows that the runs lie in, each with the files that have its sectors.
    fn windows(&self, runs: &[Range<u64>]) -> impl Iterator<Item = (u64, Vec<Piece<'_>>)> {
        let mut rest = runs.iter().cloned();
        let mut run = rest.next();
        std::iter::from_fn(move || {
            let window = run.as_ref()?.start / WINDOW_SECTORS;
            let mut pieces = Vec::new();
            while let Some(current) = run.take() {
                let end = current.end.min((window + 1) * WINDOW_SECTORS);
                if current.start >= end {
                    run = Some(current);
                    break;
                }
                let mut at = current.start;
                while at < end {
                    let (layer, until) = piece(self.layers.iter().map(Arc::as_ref), at..end);
                    pieces.push((layer, at..until));
                    at = until;
                }
                run = if end < current.end { Some(end..current.end) } else { rest.next() };
            }
            Some((window, pieces))
        })
    }

    fn copy_window<'a>(
        &'a self,
        window: u64,
        pieces: &[Piece<'a>],
        buffer: &mut [u8],
        transfer: &mut Transfer<'a>,
    ) -> Result<OverlaySum, CopyError> {
        let bytes = |sectors: &Range<u64>| sectors.start * SECTOR..sectors.end * SECTOR;
        // Then its sectors are all that there is: what an upper layer had would be a piece as well.
        let only = only(pieces);
        let known = only.and_then(|layer| layer.sums().get(&window).copied());
        if let (Some(layer), Some(sum)) = (only, known) {
            for (_, sectors) in pieces {
                transfer.copy(&layer.file, bytes(sectors))?;
            }
            return Ok(sum);
        }
        self.read(window, pieces, buffer).map_err(CopyError::Read)?;
        let sum = match only.filter(|_| transfer.may_share()) {
            Some(layer) => {
                for (_, sectors) in pieces {
                    transfer.copy(&layer.file, bytes(sectors))?;
                }
                self.write(window, buffer, |_, _| Ok(()))
            }
            None => self.write(window, buffer, |at, page| transfer.write(at, page)),
        }
        .map_err(CopyError::Write)?;
        if let Some(layer) = only {
            layer.sums().insert(window, sum);
        }
        Ok(sum)
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

    /// Fills the buffer with a window's sectors, and with zeros where there are none.
    fn read(&self, window: u64, pieces: &[Piece<'_>], buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        let first = window * WINDOW_SECTORS;
        for (layer, sectors) in pieces {
            let file = layer.map_or(&self.base, |layer| &layer.file);
            let within = |sector: u64| ((sector - first) * SECTOR) as usize;
            let place = &mut buffer[within(sectors.start)..within(sectors.end)];
            file.read_exact_at(place, sectors.start * SECTOR)?;
        }
        Ok(())
    }

    /// Has the pages of a window that have data written; the others stay holes. Says what their checksum is.
    fn write(
        &self,
        window: u64,
        buffer: &[u8],
        mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<OverlaySum> {
        let mut sum = OverlaySum::default();
        let first = window * (WINDOW as u64 / PAGE_BYTES);
        let (pages, _) = buffer.as_chunks::<{ PAGE_BYTES as usize }>();
        // The last window may reach beyond the disk, where there is nothing.
        let last = self.len.div_ceil(PAGE_BYTES);
        for (page, bytes) in (first..last).zip(pages) {
            if sum.add(page, bytes) {
                let at = page * PAGE_BYTES;
                // The last page may reach beyond the disk.
                write(at, &bytes[..(self.len - at).min(PAGE_BYTES) as usize])?;
            }
        }
        Ok(sum)
    }
}

/// The layer that has all pieces, if there is one.
fn only<'layer>(pieces: &[Piece<'layer>]) -> Option<&'layer Layer> {
    let (first, _) = pieces.first()?;
    let first = (*first)?;
    pieces.iter().all(|(layer, _)| layer.is_some_and(|layer| std::ptr::eq(layer, first))).then_some(first)
}
