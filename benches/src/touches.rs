//! What a restored guest pays for its memory: it goes over 64 MiB that it had written before it was saved.

use std::path::Path;

use anyhow::Result;

use crate::program::{Guest, Program, READY};
use crate::results::{Group, Series};

/// The guest, with 64 MiB of its memory in the image.
const GUEST: Guest = Guest { memory: "256M", fill: "64M" };

/// What it is asked, and what that is called.
const TOUCHES: [(&str, &str); 2] = [("touch read 64M", "reads 64M"), ("touch write 64M", "writes 64M")];

/// Restores and touches, `rounds` times each way.
pub fn measure(program: &Program, dir: &Path, rounds: usize) -> Result<Group> {
    let image = dir.join("touch");
    program.bake(GUEST, &image)?;
    let mut samples = TOUCHES.map(|(question, name)| (question, name, Vec::new(), Vec::new()));
    for round in 0..=rounds {
        for (question, _, answered, since_exec) in &mut samples {
            let mut vm = program.restore(&image, &[])?;
            vm.line_that_is(READY)?;
            let took = vm.ask(question)?;
            // The first round brings the image into the page cache.
            if round > 0 {
                answered.push(took);
                since_exec.push(vm.age());
            }
        }
    }
    let series = samples.into_iter().flat_map(|(_, name, answered, since_exec)| {
        [
            Series::times(format!("the guest {name}"), answered),
            Series::times(format!("restore, then the guest {name}"), since_exec),
        ]
    });
    Ok(Group {
        title: "Memory of a restored guest, 256M",
        boundary: "the guest is asked, to its answer; and exec to that answer. One access to each 4 KiB page",
        series: series.collect(),
    })
}
