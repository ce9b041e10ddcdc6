//! One VM's view of its memory.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_ioctls::VmFd;
use snapshot_format::pages::{FileOffset, Gpa, PageCount, Region};
use snapshot_format::{MemoryIndex, WorkingSet};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::layout::{self, RamLayout};
use super::lazy::{self, Knife, Lazy, Loss};
use super::prefetch::Prefetch;
use super::touched::Touched;
use super::{Error, GuestRam, Image, RamRegion};
use crate::lifecycle::Quiesced;
use crate::sys::uffd::{Faults, Uffd};
use crate::sys::{kvm, pagemap};

/// What guest memory is before the guest has written it.
#[derive(Debug)]
enum Backing {
    /// Zeros: a guest that was booted.
    Anonymous,
    /// The pages of an image: a guest that was restored. What it writes are private copies.
    PrivateFile {
        image: Arc<Image>,
        /// Brings in what the guest is going to touch.
        prefetch: Mutex<Option<Prefetch>>,
    },
    /// The same pages, delivered as they are touched; with the image's file, if it is here as well.
    Lazy(Lazy, Option<Arc<Image>>),
}

/// Guest memory, mapped into this process.
#[derive(Debug)]
pub struct Memory {
    // Declared first: who watches over the delivering of pages ends before the memory does.
    backing: Backing,
    ram: GuestRam,
    /// Where each region of `ram` lies in the memory file of an image, in the same order.
    placement: Vec<Region>,
}

/// A run of pages of guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRun {
    /// Which region.
    pub region: usize,
    /// Bytes of the region, page-aligned.
    pub bytes: Range<usize>,
}

/// The pages that this process holds for itself: touched, if the guest was booted; written, if it was restored; delivered
/// or written, if they are delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnPages {
    /// Pages of any content.
    pub data: Vec<OwnRun>,
    /// Pages that are zero, whatever lies below.
    pub zeros: Vec<OwnRun>,
}

impl Memory {
    /// Zeroed memory for a guest that is to boot. Takes space only where it is touched.
    pub fn anonymous(layout: RamLayout) -> Result<Self, Error> {
        let placement = place(layout)?;
        let map = |region: &Region| {
            let (gpa, bytes) = (region.guest().get(), region.pages().bytes());
            let region = RamRegion::anonymous(GuestAddress(gpa), bytes as usize)
                .map_err(|source| Error::Reserve { gpa, bytes, source })?;
            // A guest that goes over its memory faults once on 2 MiB and not 512 times. One that touches a byte here and there
            // pays for it: with a page of 2 MiB for each, and with a longer pause, because a snapshot reads what is there
            // to see that it is zero; never more than a guest of that size that has touched everything.
            region.ask_for_huge_pages(&(0..bytes as usize));
            Ok(region)
        };
        Self::new(placement, Backing::Anonymous, map)
    }

    /// The memory of an image, mapped copy-on-write: nothing is read before it is touched, and nothing is ever
    /// written to the file.
    pub fn private_file(image: &Arc<Image>) -> Result<Self, Error> {
        let placement = image.index().regions().to_vec();
        let map = |region: &Region| {
            let (gpa, bytes) = (region.guest().get(), region.pages().bytes());
            RamRegion::private_file(GuestAddress(gpa), image.file(), region.offset().get(), bytes as usize)
                .map_err(|source| Error::Map { gpa, bytes, source })
        };
        let backing = Backing::PrivateFile { image: Arc::clone(image), prefetch: Mutex::default() };
        Self::new(placement, backing, map)
    }

    /// The memory of an image, whose pages `server` delivers as they are touched. `here` is the same memory, if it is here
    /// as well: a snapshot takes from a file what nobody has touched.
    pub fn lazy(
        index: &MemoryIndex,
        here: lazy::Here,
        server: lazy::Server,
        options: &lazy::Options,
    ) -> Result<Self, Error> {
        let placement = index.regions().to_vec();
        let faults = if options.record { Faults::DeliveredAndTracked } else { Faults::Delivered };
        let uffd = match Uffd::new(faults) {
            Err(error) if options.record && error.raw_os_error() == Some(libc::EINVAL) => {
                tracing::warn!(
                    "this kernel cannot tell which pages are written (Linux 6.7 can): all are recorded as read"
                );
                Uffd::new(Faults::Delivered)
            }
            made => made,
        };
        let uffd = uffd.map_err(|source| Error::Lazy(lazy::Error::Uffd(source)))?;
        let uffd = Arc::new(uffd);
        let zeros = lazy::zeros(&placement, index.chunk_sums(), &here);
        let unproven = lazy::Unproven::new(&placement, index.chunk_sums(), &here);
        // Registered whole for a server that may want to fill a region by one request (see `Lazy::start`).
        let none = vec![Vec::new(); placement.len()];
        let (zeros, later) = if server.may_be_foreign() { (none, zeros) } else { (zeros, none) };
        let map = |(region, zeros): (&Region, &Vec<Range<usize>>)| {
            let (gpa, bytes) = (region.guest().get(), region.pages().bytes());
            RamRegion::delivered(GuestAddress(gpa), bytes as usize, &uffd, zeros)
                .map_err(|source| Error::Reserve { gpa, bytes, source })
        };
        let regions = placement.iter().zip(&zeros).map(map).collect::<Result<Vec<_>, _>>()?;
        let ram = GuestRam::from_regions(regions).map_err(Error::Regions)?;
        let lazy = Lazy::start(ram.clone(), placement.clone(), uffd, (later, unproven), server, options);
        let lazy = lazy.map_err(Error::Lazy)?;
        Ok(Self { backing: Backing::Lazy(lazy, here.into_image()), ram, placement })
    }

    fn new(
        placement: Vec<Region>,
        backing: Backing,
        map: impl Fn(&Region) -> Result<RamRegion, Error>,
    ) -> Result<Self, Error> {
        let regions = placement.iter().map(map).collect::<Result<Vec<_>, _>>()?;
        let ram = GuestRam::from_regions(regions).map_err(Error::Regions)?;
        Ok(Self { backing, ram, placement })
    }

    /// Gives the regions to KVM, one slot each. Call before anything that registers a device on the in-kernel buses:
    /// see [`crate::irq::Chipset::create`]. The VM must not outlive this value.
    pub(crate) fn plug(&self, vm: &VmFd) -> Result<(), Error> {
        for (slot, region) in (0..).zip(self.ram.iter()) {
            kvm::set_memory_slot(vm, slot, region)
                .map_err(|source| Error::Slot { gpa: region.start_addr().0, source })?;
        }
        Ok(())
    }

    /// For devices and the loader.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Where each region lies in the memory file of an image.
    pub fn placement(&self) -> &[Region] {
        &self.placement
    }

    /// The image below, if the guest was restored and has not got all of it. What is missing of a guest whose memory is
    /// being delivered and whose image is elsewhere is brought in by [`Self::own_pages`].
    pub fn base(&self) -> Option<&Arc<Image>> {
        match &self.backing {
            Backing::Anonymous => None,
            Backing::PrivateFile { image, .. } => Some(image),
            Backing::Lazy(lazy, _) if lazy.is_complete() => None,
            Backing::Lazy(_, file) => file.as_ref(),
        }
    }

    /// The image that the guest is mapped from, whose end is the guest's.
    pub fn mapped_image(&self) -> Option<&Arc<Image>> {
        match &self.backing {
            Backing::PrivateFile { image, .. } => Some(image),
            Backing::Anonymous | Backing::Lazy(..) => None,
        }
    }

    /// Whether every page is there, if pages are delivered.
    #[cfg(test)]
    pub(crate) fn completeness(&self) -> Option<bool> {
        match &self.backing {
            Backing::Lazy(lazy, _) => Some(lazy.is_complete()),
            Backing::Anonymous | Backing::PrivateFile { .. } => None,
        }
    }

    /// What becomes known of a loss, if pages are delivered and one may be lost.
    pub fn loss(&self) -> Option<&Arc<Loss>> {
        match &self.backing {
            Backing::Lazy(lazy, _) => Some(lazy.loss()),
            Backing::Anonymous | Backing::PrivateFile { .. } => None,
        }
    }

    /// The pages that differ from what backs them, or may differ: what a snapshot must take from memory. The rest is
    /// zero, or as in [`Self::base`].
    ///
    /// Where there is no image here to take the rest from, all of it is brought in first, which takes as long as the page
    /// server does. If `wanted` says meanwhile that nobody wants it any more, what comes of this is of no use.
    pub fn own_pages(&self, _at_rest: &Quiesced<'_>, wanted: &dyn Fn() -> bool) -> Result<OwnPages, Error> {
        match &self.backing {
            Backing::Lazy(lazy, None) => lazy.fetch_all(wanted).map_err(Error::Lazy)?,
            // What it brings in while the guest stands still is more to copy.
            Backing::PrivateFile { prefetch, .. } => drop(take(prefetch)),
            Backing::Lazy(..) | Backing::Anonymous => {}
        }
        let mut own = OwnPages::default();
        for (index, region) in self.ram.iter().enumerate() {
            let found = pagemap::private_pages(region.host_address(), region.len() as usize);
            let pagemap::Own { data, zeros } = found.map_err(Error::PageMap)?;
            let run = |bytes| OwnRun { region: index, bytes };
            own.data.extend(data.into_iter().map(run));
            own.zeros.extend(zeros.into_iter().map(run));
        }
        Ok(own)
    }

    /// For as long as what this gives lives, the memory is not taken away because a page of it is lost. Only pages that
    /// are there may be touched meanwhile.
    ///
    /// # Errors
    /// It is gone.
    pub fn keep(&self, _at_rest: &Quiesced<'_>) -> Result<Option<MutexGuard<'_, ()>>, Error> {
        match &self.backing {
            Backing::Lazy(lazy, _) => lazy.keep().map(Some).map_err(Error::Lazy),
            Backing::Anonymous | Backing::PrivateFile { .. } => Ok(None),
        }
    }

    /// What ends the waiting for pages, if pages are delivered.
    pub fn knife(&self) -> Option<Knife> {
        match &self.backing {
            Backing::Lazy(lazy, _) => Some(lazy.knife()),
            Backing::Anonymous | Backing::PrivateFile { .. } => None,
        }
    }

    /// Lets everybody go who waits for a page that is to be delivered. Call only when nobody uses the memory any more.
    pub(crate) fn let_go(&mut self) {
        match &mut self.backing {
            Backing::Lazy(lazy, _) => lazy.let_go(),
            Backing::Anonymous | Backing::PrivateFile { .. } => {}
        }
    }

    /// What lies in no image below any more, because the guest has given it back, or never has: but for
    /// [`Self::own_pages`], it is zero.
    pub fn given_back(&self, _at_rest: &Quiesced<'_>) -> Vec<OwnRun> {
        let of_region = |(index, region): (usize, &RamRegion)| {
            region.taken_back().into_iter().map(move |bytes| OwnRun { region: index, bytes })
        };
        self.ram.iter().enumerate().flat_map(of_region).collect()
    }

    /// Starts to bring in what `wanted` says, in its order, beside the guest: until it is all there, the guest is saved, or
    /// the memory is dropped. Of use only where an image is mapped.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(crate) fn prefetch(
        &self,
        wanted: impl FnOnce() -> Option<WorkingSet> + Send + 'static,
    ) -> std::io::Result<()> {
        if let Backing::PrivateFile { prefetch, .. } = &self.backing {
            let started = Prefetch::start(self.ram.clone(), self.placement.clone(), wanted)?;
            *prefetch.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        }
        Ok(())
    }

    /// Starts to watch which pages are touched. Call before the guest runs.
    pub(crate) fn watch_touches(&self) -> Result<Touched, Error> {
        let (one_by_one, probed) = match &self.backing {
            Backing::Lazy(lazy, _) => (None, Some(lazy.probes())),
            Backing::PrivateFile { .. } => (self.one_by_one(), None),
            Backing::Anonymous => (None, None),
        };
        let image = self.base().cloned();
        Touched::new(self.ram.clone(), self.placement.clone(), one_by_one, probed, image)
            .map_err(Error::Touched)
    }

    /// The kernel maps the neighbours of a page of a file along with it, unless a userfaultfd watches.
    fn one_by_one(&self) -> Option<Uffd> {
        let register = |uffd: Uffd| {
            let all = self.ram.iter().try_for_each(|at| uffd.register(at.host_address(), at.len() as usize));
            all.map(|()| uffd)
        };
        Uffd::new(Faults::OneByOne)
            .and_then(register)
            .inspect_err(
                |error| tracing::warn!(%error, "pages beside those that are touched are recorded, too"),
            )
            .ok()
    }

    /// Region number `index`.
    pub fn region(&self, index: usize) -> Option<&RamRegion> {
        self.ram.iter().nth(index)
    }
}

fn take(prefetch: &Mutex<Option<Prefetch>>) -> Option<Prefetch> {
    prefetch.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Regions lie in the memory file in the order of their addresses, one behind the other.
fn place(layout: RamLayout) -> Result<Vec<Region>, Error> {
    let mut offset = 0;
    let mut placement = Vec::new();
    for layout::RamRegion { base, len } in layout.regions() {
        let pages = PageCount::from_bytes(len).map_err(Error::Index)?;
        let gpa = Gpa::new(base).map_err(Error::Index)?;
        let at = FileOffset::new(offset).map_err(Error::Index)?;
        placement.push(Region::new(gpa, pages, at).map_err(Error::Index)?);
        offset += len;
    }
    Ok(placement)
}
