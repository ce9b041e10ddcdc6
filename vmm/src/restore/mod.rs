//! Image files to a paused machine.
//!
//! [`plan`] reads and checks everything and creates nothing: after it, what can still fail is the host. [`Plan::restore`]
//! then maps the memory and builds the machine, one phase a line, each timed in a [`Report`].

mod build;
mod host;
mod plan;
pub mod record;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use snapshot_format::dir;

pub use plan::{Contents, Plan, plan, read};
pub use record::Recording;
pub use report::{Phase, Report};

use crate::machine::{Connections, PausedVm};
use crate::memory::{self, Memory, lazy};
use record::Subject;
use report::Stopwatch;

/// Why an image could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image directory cannot be opened.
    #[error(transparent)]
    Directory(dir::Error),
    /// The state file is no state file of ours, damaged, or of another version.
    #[error("cannot read the state of image `{}`", path.display())]
    State {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: snapshot_format::Error,
    },
    /// The page index is damaged, or the memory file does not fit it.
    #[error("cannot use the memory of image `{}`", path.display())]
    Memory {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: snapshot_format::pages::Error,
    },
    /// What the image has of an overlay is damaged, or its file does not fit it.
    #[error("cannot use what image `{}` has of disk `{id}`", path.display())]
    Disk {
        /// The image.
        path: PathBuf,
        /// The disk.
        id: String,
        /// Why.
        #[source]
        source: snapshot_format::overlay::Error,
    },
    /// Parts of the image contradict each other.
    #[error("image `{}` contradicts itself: {problem}", path.display())]
    Contradiction {
        /// The image.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// The host lacks what the image needs.
    #[error("this host cannot run image `{}`: {lack}", path.display())]
    Host {
        /// The image.
        path: PathBuf,
        /// What is lacking, or different.
        lack: String,
    },
    /// KVM is not usable.
    #[error("cannot use KVM")]
    Kvm(#[source] crate::machine::Error),
    /// Guest memory could not be mapped.
    #[error("cannot map guest memory")]
    Map(#[source] memory::Error),
    /// What the guest touches cannot be recorded.
    #[error("cannot record what the guest touches")]
    Record(#[source] record::Error),
    /// A page of guest memory that was to be delivered is lost.
    #[error("guest memory cannot be delivered any more")]
    Pages(#[source] lazy::Lost),
    /// The machine could not be built.
    #[error("cannot build the machine")]
    Machine(#[source] crate::machine::Error),
    /// A device refuses its saved state.
    #[error("cannot restore the devices")]
    Device(#[source] crate::device::Error),
    /// What a virtio device needs of the host is not there, or it refuses its saved state.
    #[error("cannot restore the virtio devices")]
    Virtio(#[source] crate::device::virtio::Error),
    /// A vCPU refuses its saved state.
    #[error("cannot restore a vCPU")]
    Vcpu(#[source] crate::vcpu::Error),
    /// The clock could not be set.
    #[error("cannot restore the clock")]
    Clock(#[source] crate::clock::Error),
    /// The chipset refuses its saved state.
    #[error("cannot restore the chipset")]
    Chipset(#[source] crate::irq::Error),
}

/// Who delivers memory, and how.
#[derive(Debug)]
pub struct Delivery {
    /// Who.
    pub server: lazy::Server,
    /// How long a page may take.
    pub timeout: Duration,
}

impl Plan {
    /// Has it recorded which pages the guest touches, from before it runs and for `time` at most, and added to the image.
    /// Nothing is prefetched then.
    ///
    /// # Errors
    /// The image cannot be written to.
    pub fn record(&mut self, time: Duration) -> Result<Recording, Error> {
        let writable = dir::check_replaceable(&self.contents.dir, dir::WORKING_SET);
        writable.map_err(|e| Error::Record(record::Error::Store(e)))?;
        self.prefetch = false;
        let recording = Recording::new();
        self.recording = Some((recording.shared(), time));
        Ok(recording)
    }

    /// Whether the image has its memory packed, so that it cannot be mapped.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        let Contents { image, dir, .. } = &self.contents;
        image.is_none() && matches!(dir.memory(), Err(dir::Error::Packed { .. }))
    }

    /// Leaves it to the guest to touch its pages, whatever the image knows of them.
    pub fn without_prefetch(&mut self) {
        self.prefetch = false;
    }

    /// Builds the machine, paused.
    ///
    /// The order of what is created is `machine::Frame`'s; the order of what is set is here.
    ///
    /// - All vCPUs exist before the clock is set, because KVM relates kvmclock to the host's TSC only when every vCPU
    ///   has a TSC that matches (`pvclock_update_vm_gtod_copy`), and none do when there are none.
    /// - The clock before the vCPUs' state, because their TSCs follow it.
    /// - The chipset after the vCPUs, because its pending interrupts go to their LAPICs.
    /// - The devices last: they raise their lines again, through the chipset. The virtio devices are made before the
    ///   lines are bound, because they have their own.
    pub fn restore(self, connections: Connections, report: &mut Report) -> Result<PausedVm, Error> {
        let image = Arc::clone(self.contents.image()?);
        self.build(connections, report, |_| Memory::private_file(&image))
    }

    /// The same, with memory that a page server delivers as the guest touches it.
    ///
    /// # Errors
    /// As [`Self::restore`]; a page that is needed for it cannot be had.
    pub fn restore_lazily(
        self,
        connections: Connections,
        delivery: Delivery,
        report: &mut Report,
    ) -> Result<PausedVm, Error> {
        let Delivery { server, timeout } = delivery;
        let (prefetch, record) = (self.prefetch, self.recording.is_some());
        let mut loss = None;
        let built = self.build(connections, report, |contents| {
            let image_id = contents.manifest.image_id;
            let options = lazy::Options { image_id, prefetch, record, timeout };
            let memory = Memory::lazy(&contents.index, contents.memory_here(), server, &options)?;
            loss = memory.loss().cloned();
            Ok(memory)
        });
        // What fails because memory is gone says less than that it is gone.
        built.map_err(|error| match loss.and_then(|loss| loss.get().cloned()) {
            Some(lost) => Error::Pages(lost),
            None => error,
        })
    }

    fn build(
        self,
        connections: Connections,
        report: &mut Report,
        map: impl FnOnce(&Contents) -> Result<Memory, memory::Error>,
    ) -> Result<PausedVm, Error> {
        let Self { contents, host, virtio, prefetch, recording } = self;
        let mut time = Stopwatch::start(report);
        let memory = map(&contents).map_err(Error::Map)?;
        time.lap("map-memory");
        let frame = build::frame(&host, memory)?;
        contents.check_xsave(&frame)?;
        time.lap("create-vm");
        let blank = build::blank_vcpus(&frame, &contents.vcpus)?;
        let shift = build::clock(&frame, &contents.clock, &contents.vcpus)?;
        let (vcpus, exact_tsc) = build::vcpus(blank, &contents.vcpus, &shift)?;
        time.clock(&shift, exact_tsc);
        time.lap("vcpus");
        let virtio = build::virtio(&frame, virtio)?;
        build::lines(&frame, &connections, &virtio)?;
        build::chipset(&frame, &contents.chipset)?;
        time.lap("chipset");
        let Contents { manifest, devices, dir, index, .. } = contents;
        let subject = Subject { dir, image_id: manifest.image_id, file_pages: index.file_pages() };
        let vm = build::machine(frame, vcpus, (manifest, devices), connections, virtio, shift.elapsed())?;
        time.lap("devices");
        if let Some((recording, limit)) = recording {
            recording.start(vm.memory(), subject, limit).map_err(Error::Record)?;
        } else if prefetch
            && subject.may_have_working_set()
            && let Err(error) = vm.memory().prefetch(move || subject.working_set())
        {
            tracing::debug!(%error, "guest memory is not prefetched");
        }
        Ok(vm)
    }
}
