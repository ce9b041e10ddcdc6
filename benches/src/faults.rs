//! How long a thread that touches a page waits for it, by where pages come from, by how much is delivered for a fault,
//! and by whether the server sleeps until then or looks out. The VMM is a stand-in: memory, a userfaultfd, no guest.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use page_server::fault::Grain;
use page_server::image::{self, Served};
use page_server::inline;
use page_server::session::Options;
use page_server::testing::{Memory, hand_over};

use crate::program::{Guest, Program};
use crate::results::{Group, Series};

/// The guest whose image is served.
const GUEST: Guest = Guest { memory: "256M", fill: "64M" };

/// Bytes of raw memory files.
const RAW: u64 = 64 << 20;

/// How much is delivered for a fault; what is served by default is the third.
const GRAINS: [(&str, u64); 5] =
    [("4K", 4 << 10), ("16K", 16 << 10), ("64K", 64 << 10), ("256K", 256 << 10), ("1M", 1 << 20)];
const DEFAULT_GRAIN: u64 = 64 << 10;

/// The most faults of one run.
const MOST: usize = 256;

/// Whether the server sleeps when a fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Asleep,
    Awake,
}

impl Watch {
    fn options(self, grain: u64) -> Options {
        let poll = if self == Self::Asleep { Duration::ZERO } else { Duration::from_millis(10) };
        Options { grain: Grain { least: grain, most: grain }, poll, ..Options::default() }
    }

    fn name(self) -> &'static str {
        if self == Self::Asleep { "asleep" } else { "looking out" }
    }
}

/// Where pages come from.
struct Source {
    name: &'static str,
    path: PathBuf,
    /// What is kept of it from one run to the next, if anything is.
    kept: Option<image::Options>,
}

/// Measures `rounds` runs of each kind.
///
/// # Errors
/// There is no userfaultfd to be had, or an image cannot be made.
pub fn measure(program: &Program, dir: &Path, rounds: usize) -> Result<Vec<Group>> {
    let sources = sources(program, dir)?;
    let mut by_source = Vec::new();
    let mut by_grain = Vec::new();
    for watch in [Watch::Asleep, Watch::Awake] {
        for source in &sources {
            let name = format!("{}, server {}", source.name, watch.name());
            by_source.push(Series::times(name, runs(source, watch, DEFAULT_GRAIN, rounds)?));
        }
        for (grain, bytes) in GRAINS {
            let name = format!("{grain}, server {}", watch.name());
            by_grain.push(Series::times(name, runs(&sources[0], watch, bytes, rounds)?));
        }
    }
    let boundary = "one page of each window is touched, in random order: from before the touch to the byte, in the \
                    thread that touches. In the page cache";
    Ok(vec![
        Group { title: "One fault, by source, 64K delivered", boundary, series: by_source },
        Group { title: "One fault, by what is delivered, of a memory file", boundary, series: by_grain },
    ])
}

fn sources(program: &Program, dir: &Path) -> Result<Vec<Source>> {
    let (raw, layer, image, packed) =
        (dir.join("raw"), dir.join("layer"), dir.join("faults"), dir.join("faults-packed"));
    fill(&raw, RAW, 0)?;
    fill(&layer, RAW, 4 << 20)?;
    program.bake(GUEST, &image)?;
    program.pack(&image, &packed)?;
    let mut stack = raw.clone().into_os_string();
    stack.push("+");
    stack.push(&layer);
    let source = |name, path: &Path, kept| Source { name, path: path.to_owned(), kept };
    Ok(vec![
        source("memory file", &raw, None),
        source("layers", Path::new(&stack), None),
        source("checked file", &image, None),
        source("pack, decoded", &packed, None),
        source("pack, cached", &packed, Some(image::Options::default())),
    ])
}

/// A memory file of random-looking pages; every other stretch of `holes` bytes is a hole, unless that is 0.
pub(crate) fn fill(path: &Path, len: u64, holes: u64) -> Result<()> {
    let failed = || format!("cannot write `{}`", path.display());
    let file = File::create(path).with_context(failed)?;
    let page: Vec<u8> = (0..4096_u32).map(|at| (at.wrapping_mul(at) >> 3) as u8 | 1).collect();
    for offset in (0..len).step_by(page.len()) {
        if holes == 0 || (offset / holes).is_multiple_of(2) {
            file.write_all_at(&page, offset).with_context(failed)?;
        }
    }
    file.set_len(len).with_context(failed)?;
    file.sync_all().with_context(failed)
}

fn runs(source: &Source, watch: Watch, grain: u64, rounds: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    // A source of which something is kept for the next run is opened here, so that it lives that long.
    let kept = source.kept.as_ref().map(|options| Served::open(&source.path, options)).transpose()?;
    for round in 0..=rounds {
        let served = match &kept {
            Some(served) => Arc::clone(served),
            None => Served::open(&source.path, &image::Options::default())?,
        };
        let run = run(served, watch, grain).with_context(|| format!("cannot measure `{}`", source.name))?;
        if round > 0 {
            times.extend(run);
        }
    }
    Ok(times)
}

/// Touches windows of a new memory that `served` is delivered to.
fn run(served: Arc<Served>, watch: Watch, grain: u64) -> Result<Vec<Duration>> {
    let len = served.source().len();
    let windows = (0..len).step_by(grain.max(DEFAULT_GRAIN) as usize);
    let mut windows: Vec<u64> = windows.filter(|offset| served.source().zeros(*offset) == 0).collect();
    shuffle(&mut windows);
    windows.truncate(MOST);
    let memory = Memory::new(usize::try_from(len)?, 4096).context("cannot have memory with a userfaultfd")?;
    let (ours, theirs) = UnixStream::pair().context("cannot make a pair of sockets")?;
    let server = inline::serve(theirs, served, watch.options(grain)).context("cannot start a server")?;
    hand_over(&ours, &memory, None).context("cannot hand memory over")?;
    let mut times = Vec::with_capacity(windows.len());
    for offset in windows {
        if watch == Watch::Asleep {
            thread::sleep(Duration::from_micros(100));
        }
        let touched = Instant::now();
        black_box(memory.byte(offset as usize));
        times.push(touched.elapsed());
    }
    drop(ours);
    server.join().map_err(|_| anyhow!("the server has panicked"))?;
    Ok(times)
}

/// The same disorder every time (Fisher and Yates, with the generator of Knuth's MMIX).
pub(crate) fn shuffle(values: &mut [u64]) {
    let mut state: u64 = 1;
    for last in (1..values.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        values.swap(last, (state >> 33) as usize % (last + 1));
    }
}
