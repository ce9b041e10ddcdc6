//! `rekindle pack` and `rekindle unpack`.

use std::path::Path;

use anyhow::Result;
use page_server::image::{self, Packed};

use super::args::PackArgs;
use super::exit::printable;
use super::output;

/// Writes an image again with its memory compressed.
pub(super) fn pack(args: &PackArgs) -> Result<()> {
    let packed = image::pack(&args.image, &args.out)?;
    output::text(&render(&args.out, packed))
}

/// Writes a packed image again with its memory as it was.
pub(super) fn unpack(args: &PackArgs) -> Result<()> {
    image::unpack(&args.image, &args.out)?;
    output::text(&(printable(&format!("{}: unpacked", args.out.display())) + "\n"))
}

/// One line for the terminal.
fn render(out: &Path, packed: Packed) -> String {
    let Packed { memory_bytes, pack_bytes } = packed;
    let mib = |bytes| bytes as f64 / f64::from(1 << 20);
    let line = format!(
        "{}: {:.1} MiB of memory packed in {:.1} MiB",
        out.display(),
        mib(memory_bytes),
        mib(pack_bytes)
    );
    printable(&line) + "\n"
}
