//! The image that a guest was restored from, watched while the guest lives.
//!
//! A page that the memory file has lost cannot always be missed: KVM tries to have it read in the background and puts
//! the vCPU to sleep meanwhile (`kvm_arch_setup_async_pf`), and when that has failed the vCPU finds out by the same
//! fault, so a guest that has interrupts enabled sleeps on and on. It is therefore the file that is watched, and not
//! the guest. inotify(7) tells only what happens on this host, and there may be no watch left to be had: then the guest
//! is as well off as it would be without.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use snapshot_format::pages;

use crate::memory::Image;

/// A watch on an image's memory file.
pub(super) struct BaseWatch {
    image: Arc<Image>,
    told: File,
}

impl BaseWatch {
    /// Starts to watch `image`, if that is possible here.
    pub(super) fn start(image: &Arc<Image>) -> Option<Self> {
        match watch(image.file()) {
            Ok(told) => Some(Self { image: Arc::clone(image), told: told.into() }),
            Err(error) => {
                tracing::debug!(%error, "the image's memory file cannot be watched");
                None
            }
        }
    }

    /// Readable when somebody has changed the file.
    pub(super) fn told(&self) -> &impl AsRawFd {
        &self.told
    }

    /// What has become of the file: nothing that matters, or the end of the guest.
    pub(super) fn look(&self) -> Result<(), pages::Error> {
        // What it tells is only that; the queue is emptied by as many looks as it takes.
        let _ = rustix::io::read(&self.told, &mut [0; 4096]);
        self.image.check_len()
    }
}

/// By way of /proc, because the file was opened relative to a directory that may have been renamed since.
fn watch(file: &File) -> Result<OwnedFd, rustix::io::Errno> {
    let told = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    add_watch(&told, format!("/proc/self/fd/{}", file.as_raw_fd()), WatchFlags::MODIFY)?;
    Ok(told)
}
