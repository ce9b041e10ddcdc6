//! `rekindle verify`.

use anyhow::Result;
use vmm::restore;

use super::args::VerifyArgs;
use super::exit::printable;
use super::output;

/// Checks every byte of an image: the state file by decoding all of it, memory and disks by their
/// checksums.
pub(super) fn run(args: &VerifyArgs) -> Result<()> {
    let contents = restore::read(&args.image)?;
    let data = contents.verify_memory()? + contents.verify_disks()?;
    let line = format!(
        "{}: good ({} vCPUs, {} MiB of memory, {:.1} MiB of data)",
        args.image.display(),
        contents.manifest().vcpus,
        contents.manifest().memory_bytes >> 20,
        data as f64 / f64::from(1 << 20),
    );
    output::text(&(printable(&line) + "\n"))
}
