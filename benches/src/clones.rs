//! Many clones of one image, started at once, and what memory each of them costs.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::program::{Guest, Program, READY, Vm};
use crate::results::{Group, Series};

/// What is cloned.
const GUEST: Guest = Guest { memory: "256M", fill: "8M" };

/// How many at once.
const COUNTS: [usize; 2] = [8, 32];

/// Starts crowds of clones, `rounds` times each.
pub fn measure(program: &Program, dir: &Path, rounds: usize) -> Result<Group> {
    let image = dir.join("clone");
    program.bake(GUEST, &image)?;
    // Brings the image into the page cache.
    program.restore(&image, &[])?.first_byte()?;
    let mut crowds = COUNTS.map(|count| (count, Vec::new(), Vec::new()));
    for _ in 0..rounds {
        for (count, times, sizes) in &mut crowds {
            let started = Instant::now();
            let vms = (0..*count).map(|_| program.restore(&image, &[]));
            let mut vms = vms.collect::<Result<Vec<_>>>()?;
            for vm in &mut vms {
                vm.first_byte()?;
            }
            times.push(started.elapsed());
            for vm in &mut vms {
                vm.line_that_is(READY)?;
            }
            for vm in &vms {
                sizes.push(proportional_set(vm)?);
            }
        }
    }
    let series = crowds.into_iter().flat_map(|(count, times, sizes)| {
        [
            Series::times(format!("{count} clones"), times),
            Series::sizes(format!("memory of one of {count} clones (PSS)"), sizes),
        ]
    });
    Ok(Group {
        title: "Clones, 256M",
        boundary: "exec of the first to the first byte of the last; PSS with all of them ready and idle",
        series: series.collect(),
    })
}

/// What the process takes of the host's memory, shared pages counted in shares.
fn proportional_set(vm: &Vm) -> Result<u64> {
    let path = format!("/proc/{}/smaps_rollup", vm.pid());
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("`{path}` has no line `Pss:`"))? << 10)
}
