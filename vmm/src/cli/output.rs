//! Results on stdout. A reader that goes away early (`| head`) has seen what it wanted: that is no error.

use std::io::{self, Write};

use anyhow::{Context, Result};
use serde::Serialize;

/// Prints one JSON document.
pub(super) fn json<T: Serialize>(value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).context("cannot write the result as JSON")?;
    text.push(b'\n');
    bytes(&text)
}

/// Prints text as it is.
pub(super) fn text(text: &str) -> Result<()> {
    bytes(text.as_bytes())
}

fn bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}
