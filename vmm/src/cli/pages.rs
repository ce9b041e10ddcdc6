//! Who delivers the pages of a guest that is restored lazily: the page server at a socket, or a thread of this process,
//! which speaks with the VM in the same way.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use page_server::image::Served;
use page_server::inline;
use page_server::session::Options;
use page_server::trace::Trace;
use vmm::memory::lazy::Server;

use super::written::Written;

/// The page server at `socket`, which is waited for up to `timeout`, or else one for `image` alone, which writes its faults
/// to `trace`.
pub(super) fn server(
    socket: Option<PathBuf>,
    timeout: Duration,
    image: &Path,
    trace: Option<&Path>,
) -> Result<Server> {
    if let Some(path) = socket {
        let shown = path.display().to_string();
        let waits = |why: &std::io::Error| {
            tracing::warn!("waiting for a page server at `{shown}` (--pages-timeout): {why}");
        };
        return Ok(Server::connect(path, timeout, waits)?);
    }
    let served = Served::open(image, &Default::default())
        .with_context(|| format!("cannot serve the memory of image `{}`", image.display()))?;
    let trace = trace.map(|path| start_trace(path, image)).transpose()?.map(Arc::new);
    let (ours, theirs) = UnixStream::pair().context("cannot make a pair of sockets")?;
    let options = Options { trace, ..Options::default() };
    // It ends with the VM, whose end of the pair is closed then.
    let _ = inline::serve(theirs, served, options).context("cannot start a thread to deliver pages")?;
    Ok(Server { stream: ours, path: None })
}

fn start_trace(path: &Path, image: &Path) -> Result<Trace> {
    let written = Written::open(path, "the trace", Some(image))?;
    written.empty()?;
    written
        .file()
        .and_then(Trace::new)
        .with_context(|| format!("cannot write the trace to `{}`", path.display()))
}
