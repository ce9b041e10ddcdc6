//! What a restored guest pays for 64 MiB of its memory, by every way it can come: mapped, delivered by a thread of the
//! process, delivered by `rekindle-pages`, and out of a pack; with and without a working set; with the image in the
//! page cache and without. And what a working set that is delivered ahead leaves to be asked for.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, fadvise};

use crate::program::{Guest, Program, READY, Vm};
use crate::results::{Group, Series};
use crate::server::{Done, PageServer};

/// The guest, with 64 MiB of its memory in the image.
const GUEST: Guest = Guest { memory: "256M", fill: "64M" };

/// What it is asked, and what that is called.
const TOUCHES: [(&str, &str); 2] = [("touch read 64M", "read"), ("touch write 64M", "write")];

/// For how long a guest is watched that shows what it touches.
const RECORD: &str = "--record=2s";
/// How long the set may take to be written after that.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was measured, and what could not be.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The tables.
    pub groups: Vec<Group>,
    /// What is missing, and why.
    pub not_measured: Vec<String>,
}

/// Images of one guest: as it is, and packed; for each touch the one that is restored for it.
struct Images {
    set: &'static str,
    whole: [PathBuf; 2],
    packed: [PathBuf; 2],
}

/// One way to restore, and what it has taken.
struct Way<'a> {
    name: String,
    images: &'a [PathBuf; 2],
    options: Vec<&'a OsStr>,
    answered: [Vec<Duration>; 2],
    since_exec: [Vec<Duration>; 2],
}

/// Restores and touches, `rounds` times each way; `pages` is the page server's program.
///
/// # Errors
/// A guest cannot be started, or fails.
pub fn measure(program: &Program, pages: &Path, dir: &Path, rounds: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut images = vec![bake(program, dir, "no set")?];
    match record(program, dir) {
        Ok(recorded) => images.push(recorded),
        Err(why) => outcome.not_measured.push(format!("working sets: {why:#}")),
    }
    let mut whole: Vec<&Path> =
        images.iter().flat_map(|images| &images.whole).map(PathBuf::as_path).collect();
    // Without a set both are the same.
    whole.dedup();
    let server = PageServer::start(pages, dir, &whole)?;
    let titles = [
        ("64 MiB of a restored guest, from the page cache", false),
        ("64 MiB of a restored guest, from the disk", true),
    ];
    for (title, cold) in titles {
        let mut ways = ways(&images, &server);
        // The first round brings everything into the page cache.
        for round in 0..=rounds {
            for way in &mut ways {
                for touch in 0..TOUCHES.len() {
                    way.touch(program, touch, cold, round > 0)?;
                }
            }
        }
        outcome.groups.push(Group {
            title,
            boundary: "asked: from the question, typed as soon as the guest is there, to its answer; in all: exec to \
                       that answer. One access to each 4 KiB page. From the disk: the kernel was told to drop the \
                       image's pages from its cache",
            series: ways.into_iter().flat_map(Way::into_series).collect(),
        });
    }
    if let Some(recorded) = images.get(1) {
        outcome.groups.extend(ahead(program, &server, &recorded.whole[0], rounds)?);
    }
    Ok(outcome)
}

fn ways<'a>(images: &'a [Images], server: &'a PageServer) -> Vec<Way<'a>> {
    let lazy = ["--memory-mode", "lazy"].map(OsStr::new);
    let mut ways = Vec::new();
    for Images { set, whole, packed } in images {
        let mut add = |name: &str, images: &'a [PathBuf; 2], options: &[&'a OsStr]| {
            let name = format!("{name}, {set}");
            let (answered, since_exec) = Default::default();
            ways.push(Way { name, images, options: options.to_vec(), answered, since_exec });
        };
        add("mapped", whole, &[]);
        add("lazy, in the process", whole, &lazy);
        add("lazy, rekindle-pages", whole, &[OsStr::new("--pages"), server.socket().as_os_str()]);
        add("lazy, packed", packed, &lazy);
    }
    ways
}

impl Way<'_> {
    fn touch(&mut self, program: &Program, touch: usize, cold: bool, counts: bool) -> Result<()> {
        let image = &self.images[touch];
        if cold {
            drop_from_cache(image)?;
        }
        let failed = || format!("cannot measure `{}`", self.name);
        let mut vm = program.restore(image, &self.options)?;
        vm.line_that_is(READY).with_context(failed)?;
        let took = vm.ask(TOUCHES[touch].0).with_context(failed)?;
        if counts {
            self.since_exec[touch].push(vm.age());
            self.answered[touch].push(took);
        }
        Ok(())
    }

    fn into_series(self) -> impl Iterator<Item = Series> {
        let Self { name, answered, since_exec, .. } = self;
        let series = move |((_, what), (answered, since_exec))| {
            [
                Series::times(format!("{name}: {what}, asked"), answered),
                Series::times(format!("{name}: {what}, in all"), since_exec),
            ]
        };
        TOUCHES.into_iter().zip(answered.into_iter().zip(since_exec)).flat_map(series)
    }
}

fn bake(program: &Program, dir: &Path, set: &'static str) -> Result<Images> {
    let (whole, packed) = (dir.join("lazy"), dir.join("lazy, packed"));
    program.bake(GUEST, &whole)?;
    program.pack(&whole, &packed)?;
    Ok(Images { set, whole: [whole.clone(), whole], packed: [packed.clone(), packed] })
}

/// Images of such a guest with what one of its restores has touched, in each way.
fn record(program: &Program, dir: &Path) -> Result<Images> {
    let (mut whole, mut packed) = (Vec::new(), Vec::new());
    for (question, what) in TOUCHES {
        let (image, pack) =
            (dir.join(format!("lazy, {what} set")), dir.join(format!("lazy, {what} set, packed")));
        program.bake(GUEST, &image)?;
        let mut vm = program.restore(&image, &[OsStr::new(RECORD)])?;
        vm.line_that_is(READY)?;
        vm.ask(question)?;
        wait_for_set(&image, &vm)?;
        drop(vm);
        program.pack(&image, &pack)?;
        whole.push(image);
        packed.push(pack);
    }
    let both = |images: Vec<PathBuf>| <[PathBuf; 2]>::try_from(images).ok().context("there are two touches");
    Ok(Images { set: "with its set", whole: both(whole)?, packed: both(packed)? })
}

fn wait_for_set(image: &Path, vm: &Vm) -> Result<()> {
    while !image.join("working-set").exists() {
        if vm.age() > PATIENCE {
            bail!("`rekindle restore {RECORD}` has written none within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Has the kernel forget what it keeps of an image's files. They are on the disk: a commit sees to that.
fn drop_from_cache(image: &Path) -> Result<()> {
    let failed = || format!("cannot drop `{}` from the page cache", image.display());
    for entry in fs::read_dir(image).with_context(failed)? {
        let file = File::open(entry.with_context(failed)?.path()).with_context(failed)?;
        fadvise(&file, 0, None, Advice::DontNeed).with_context(failed)?;
    }
    Ok(())
}

/// What is left to be asked for of a working set that is delivered ahead, by a guest that goes over it at once; and when
/// the guest runs, and when the set is there.
fn ahead(program: &Program, server: &PageServer, image: &Path, rounds: usize) -> Result<[Group; 2]> {
    let (mut shares, mut first_bytes, mut complete) = (Vec::new(), Vec::new(), Vec::new());
    let options = [OsStr::new("--pages"), server.socket().as_os_str()];
    for _ in 0..rounds {
        let before = Done::now(server.metrics())?;
        let over = AtomicBool::new(false);
        let began = Instant::now();
        let (first_byte, grown) = thread::scope(|scope| {
            let watch = scope.spawn(|| last_growth(server.metrics(), began, &over));
            let touched = first_byte_and_touch(program, image, &options);
            over.store(true, Ordering::Relaxed);
            let grown = watch.join().expect("watching does not panic");
            Ok::<_, anyhow::Error>((touched?, grown?))
        })?;
        let done = Done::now(server.metrics())?.since(before);
        let pages = (done.prefetched + done.late) / 4096.0;
        if pages == 0.0 {
            bail!("nothing was delivered ahead of a guest whose image has a working set");
        }
        shares.push(100.0 * done.faults / pages);
        first_bytes.push(first_byte);
        complete.push(grown);
    }
    Ok([
        Group {
            title: "Faults of a guest whose working set of 64 MiB is delivered ahead",
            boundary: "the guest reads all of it as soon as it runs; all faults until its end, by the pages of the set",
            series: vec![Series::shares("demand faults", shares)],
        },
        Group {
            title: "When the guest runs, and when its working set is there",
            boundary: "from exec; the second as the server's counters say, which are read once a millisecond",
            series: vec![
                Series::times("the guest's first byte", first_bytes),
                Series::times("the last of the set delivered", complete),
            ],
        },
    ])
}

fn first_byte_and_touch(program: &Program, image: &Path, options: &[&OsStr]) -> Result<Duration> {
    let mut vm = program.restore(image, options)?;
    let first_byte = vm.first_byte()?;
    vm.line_that_is(READY)?;
    vm.ask(TOUCHES[0].0)?;
    // What is still on its way gets there while nobody asks for it.
    thread::sleep(Duration::from_millis(200));
    Ok(first_byte)
}

/// When, after `began`, the bytes that were delivered ahead were last seen to grow.
fn last_growth(metrics: &Path, began: Instant, over: &AtomicBool) -> Result<Duration> {
    let (mut last, mut bytes) = (Duration::ZERO, Done::now(metrics)?.prefetched);
    while !over.load(Ordering::Relaxed) {
        let now = Done::now(metrics)?.prefetched;
        if now > bytes {
            (last, bytes) = (began.elapsed(), now);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(last)
}
