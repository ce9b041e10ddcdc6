//! `cargo xtask trace`: a picture of what a page server delivered, address over time.
//!
//! `read` understands what `--trace FILE` of `rekindle-pages serve` and of `rekindle restore` has written (described in
//! `page-server/src/trace.rs`), `draw` makes SVG of it. Neither believes that the file is what it should be.

mod draw;
mod read;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

/// What is drawn, and where to.
#[derive(Debug, Args)]
pub struct Options {
    /// What `--trace` has written
    file: PathBuf,
    /// Where the picture goes: SVG
    #[arg(long, value_name = "SVG")]
    out: PathBuf,
}

/// Draws a trace.
pub fn run(options: &Options) -> Result<()> {
    let Options { file, out } = options;
    let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let events = read::events(&text).with_context(|| format!("`{}` is no trace", file.display()))?;
    let name = file.file_name().map(Path::new).unwrap_or(file).display().to_string();
    fs::write(out, draw::svg(&events, &name)).with_context(|| format!("cannot write `{}`", out.display()))
}
