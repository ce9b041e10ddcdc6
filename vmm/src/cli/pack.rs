//! `rekindle pack` and `rekindle unpack`.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use page_server::image::{self, Packed};
use snapshot_format::ImageDir;

use super::args::PackArgs;
use super::exit::printable;
use super::output;

/// Writes an image again with its memory compressed.
pub(super) fn pack(args: &PackArgs) -> Result<()> {
    let packed = image::pack(&args.image, &args.out)?;
    name_others(&args.image)?;
    output::text(&render(&args.out, packed))
}

/// Writes a packed image again with its memory as it was.
pub(super) fn unpack(args: &PackArgs) -> Result<()> {
    image::unpack(&args.image, &args.out)?;
    name_others(&args.image)?;
    output::text(&(printable(&format!("{}: unpacked", args.out.display())) + "\n"))
}

/// Says what lies in the image's directory and is no part of it, so that nobody believes it to be in the other image.
fn name_others(image: &Path) -> Result<()> {
    let others = ImageDir::open(image).and_then(|dir| dir.others()).map_err(image::Error::Directory)?;
    if !others.is_empty() {
        let names: Vec<String> = others.iter().map(|name| format!("`{}`", name.display())).collect();
        let line = format!(
            "rekindle: left out, because no part of an image: {} in `{}`\n",
            names.join(", "),
            image.display()
        );
        // What is told is no part of the result, and a terminal that has gone is no failure.
        let _ = io::stderr().lock().write_all(printable(&line).as_bytes());
    }
    Ok(())
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
