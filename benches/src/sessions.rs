//! How many faults a page server answers, by how many VMs raise them at once: whether it takes the CPUs that its guests need.
//! The VMMs are stand-ins in one process: memory, a userfaultfd and a thread that touches it, for each.

use std::hint::black_box;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use page_server::testing::{Memory, hand_over};

use crate::faults::{fill, shuffle};
use crate::results::{Group, Series};
use crate::server::PageServer;

/// How many VMs at once.
const VMS: [usize; 4] = [1, 4, 16, 64];
/// Bytes of each one's memory, all of which is touched, page by page.
const MEMORY: u64 = 16 << 20;
const PAGE: usize = 4096;

/// Measures `rounds` runs of each number of VMs with the page server `pages`.
///
/// # Errors
/// There is no userfaultfd to be had, or the server does not start.
pub fn measure(pages: &Path, dir: &Path, rounds: usize) -> Result<Group> {
    let file = dir.join("sessions");
    fill(&file, MEMORY, 0)?;
    let server = PageServer::start_with(pages, dir, &["--grain", "4K"], &[&file])?;
    let mut series = Vec::new();
    for vms in VMS {
        let mut times = Vec::new();
        for round in 0..=rounds {
            let time = run(server.socket(), vms)?;
            if round > 0 {
                times.push(time);
            }
        }
        let name = if vms == 1 { "1 VM".to_owned() } else { format!("{vms} VMs") };
        series.push(Series::times(name, times));
    }
    let boundary = "every page of every VM is touched once, in random order, by a thread for each VM: the time that all take, \
                    by the number of pages. 4K delivered for a fault, in the page cache";
    Ok(Group { title: "A fault's share of the time, by the number of VMs", boundary, series })
}

/// The mean time from one answered fault to the next.
fn run(socket: &Path, vms: usize) -> Result<Duration> {
    let memory = |_| Memory::new(usize::try_from(MEMORY).unwrap_or(usize::MAX), PAGE);
    let memories: Vec<Memory> = (0..vms)
        .map(memory)
        .collect::<std::io::Result<_>>()
        .context("cannot have memory with a userfaultfd")?;
    let mut connections = Vec::new();
    for memory in &memories {
        let connection = UnixStream::connect(socket).context("cannot connect to the page server")?;
        hand_over(&connection, memory, None).context("cannot hand memory over")?;
        connections.push(connection);
    }
    let mut order: Vec<u64> = (0..MEMORY).step_by(PAGE).collect();
    shuffle(&mut order);
    let start = Instant::now();
    thread::scope(|scope| {
        let touching: Vec<_> = memories
            .iter()
            .map(|memory| {
                scope.spawn(|| {
                    order.iter().for_each(|at| {
                        black_box(memory.byte(*at as usize));
                    })
                })
            })
            .collect();
        touching.into_iter().try_for_each(|thread| thread.join())
    })
    .map_err(|_| anyhow!("a thread that touches memory has panicked"))?;
    Ok(start.elapsed() / u32::try_from(vms * order.len())?)
}
