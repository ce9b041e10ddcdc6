//! Snapshots of a running guest: how long it stands still, how long the image takes, what lies on the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vmm::control::{Answer, Client, Request, SnapshotRequest};

use crate::program::{Guest, Program, READY};
use crate::results::{Group, Series};

/// What is snapshotted.
const GUESTS: [Guest; 2] = [Guest { memory: "256M", fill: "64M" }, Guest { memory: "2G", fill: "64M" }];

/// How long to wait for a VM's control socket.
const SOCKET_PATIENCE: Duration = Duration::from_secs(10);

/// What one snapshot cost.
struct Cost {
    paused: Duration,
    total: Duration,
    on_disk: u64,
}

/// Takes `rounds` snapshots of each guest.
pub fn measure(program: &Program, dir: &Path, rounds: usize) -> Result<Group> {
    let mut costs = GUESTS.map(|guest| (guest, Vec::new()));
    for _ in 0..rounds {
        for (guest, costs) in &mut costs {
            costs.push(take(program, *guest, dir)?);
        }
    }
    let series = costs.iter().flat_map(|(guest, costs)| {
        let name = |what| format!("{}, {} touched: {what}", guest.memory, guest.fill);
        [
            Series::times(name("paused"), costs.iter().map(|cost| cost.paused)),
            Series::times(name("total"), costs.iter().map(|cost| cost.total)),
            Series::sizes(name("on disk"), costs.iter().map(|cost| cost.on_disk)),
        ]
    });
    Ok(Group {
        title: "Snapshots",
        boundary: "paused: as the VM says; total: request to answer, image durable; on disk: allocated blocks",
        series: series.collect(),
    })
}

fn take(program: &Program, guest: Guest, dir: &Path) -> Result<Cost> {
    let (socket, image) = (dir.join("socket"), dir.join("snapshot"));
    let mut vm = program.boot(guest, &["--api-socket".as_ref(), socket.as_os_str()])?;
    vm.line_that_is(READY)?;
    let client = Client::connect_within(&socket, SOCKET_PATIENCE)?;
    let asked = Instant::now();
    let answer = client.ask(&Request::Snapshot(SnapshotRequest {
        out: image.clone(),
        resume: true,
        reclaim_ms: 0,
    }))?;
    let total = asked.elapsed();
    let Answer::Snapshot(summary) = answer else {
        bail!("the VM answered a snapshot with something else");
    };
    let on_disk = allocated(&image)?;
    drop(vm);
    fs::remove_dir_all(&image).context("cannot remove a measured image")?;
    // A VM that is killed leaves its socket.
    fs::remove_file(&socket).context("cannot remove a control socket")?;
    Ok(Cost { paused: Duration::from_micros(summary.paused_us), total, on_disk })
}

/// Bytes of the blocks that the files of `image` have on the disk.
fn allocated(image: &Path) -> Result<u64> {
    /// What `st_blocks` counts (inode(7)).
    const BLOCK: u64 = 512;
    let entries = fs::read_dir(image).context("cannot list a measured image")?;
    let blocks = entries.map(|entry| Ok(entry?.metadata()?.blocks()));
    let blocks: u64 = blocks.sum::<std::io::Result<_>>().context("cannot look at a measured image")?;
    Ok(blocks * BLOCK)
}
