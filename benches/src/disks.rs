//! Disks: reads and writes of two sizes, in order and anywhere, one and sixteen at a time, by the built-in guest, which
//! polls. The file is in the page cache, so what is measured is the way there and back, and not the disk behind it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::program::{Guest, Program, READY, Vm};
use crate::results::{Group, Series};
use crate::sampled;

const GUEST: Guest = Guest { memory: "64M", fill: "0" };

/// Bytes of the disk: a multiple of every request's.
const DISK: usize = 128 << 20;

/// Sizes of requests, with how many make a run.
const SIZES: [(&str, u32); 2] = [("4K", 4000), ("128K", 800)];
const DEPTHS: [u32; 2] = [1, 16];

/// How the host does what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    /// By an io_uring, where the kernel has one.
    Ring,
    /// One request after the other.
    Synchronous,
}

/// Measures `rounds` runs of each kind.
///
/// # Errors
/// A guest cannot be started, or fails.
pub fn measure(program: &Program, dir: &Path, rounds: usize) -> Result<Vec<Group>> {
    let disk = dir.join("disk");
    fill(&disk)?;
    let ring = engine(program, &disk, Engine::Ring, rounds)?;
    let synchronous = engine(program, &disk, Engine::Synchronous, rounds)?;
    fs::remove_file(&disk).context("cannot remove the disk")?;
    let boundary = "in the guest, polled: from before the request is made to its answer; the thread: its CPU time a request";
    Ok(vec![
        Group { title: "Disk, 128M in the page cache, io_uring", boundary, series: ring },
        Group { title: "Disk, 128M in the page cache, synchronous", boundary, series: synchronous },
    ])
}

/// Writes every byte: a hole would not be in the page cache.
fn fill(path: &Path) -> Result<()> {
    let bytes = vec![0x5a; 1 << 20];
    let mut file = fs::File::create(path).context("cannot make a disk")?;
    (0..DISK / bytes.len()).try_for_each(|_| file.write_all(&bytes)).context("cannot fill the disk")?;
    file.sync_all().context("cannot sync the disk")
}

fn engine(program: &Program, disk: &Path, engine: Engine, rounds: usize) -> Result<Vec<Series>> {
    let option = format!("bench={}", disk.display());
    let mut vm = program.boot(GUEST, &["--disk".as_ref(), option.as_ref()])?;
    vm.line_that_is(READY)?;
    if engine == Engine::Synchronous {
        one_more_descriptor(&vm)?;
    }
    let mut kinds = Vec::new();
    for (size, count) in SIZES {
        for (order, how) in [("seq", "read"), ("random", "read"), ("seq", "write"), ("random", "write")] {
            for depth in DEPTHS {
                let name = format!("{order} {how} {size}, depth {depth}");
                kinds.push((name, format!("disk bench {how} {order} {size} {depth} {count}")));
            }
        }
    }
    sampled::measure(&mut vm, &kinds, rounds)
}

/// A process that may open one more descriptor has it for the epoll of the device's thread, and none for a ring, which
/// is made when the first request comes.
fn one_more_descriptor(vm: &Vm) -> Result<()> {
    let directory = format!("/proc/{}/fd", vm.pid());
    let mut open = BTreeSet::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot list `{directory}`"))? {
        let name = entry.context("cannot list descriptors")?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    // The system gives out the lowest number that is free, and none from the limit on.
    let free = (0..).find(|number| !open.contains(number)).unwrap_or_default();
    let pid = i32::try_from(vm.pid()).ok().and_then(Pid::from_raw);
    let limit = Rlimit { current: Some(free + 1), maximum: Some(free + 1) };
    prlimit(pid, Resource::Nofile, limit).context("cannot limit a process")?;
    Ok(())
}
