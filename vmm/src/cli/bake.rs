//! `rekindle bake`.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use vmm::config::{BakeConfig, ReadyConfig, ReclaimLimit};
use vmm::device::serial::{ConsoleTap, ReadyPattern};
use vmm::device::virtio::transport::Patience;
use vmm::lifecycle::StopReason;
use vmm::machine::{self, Guest, Halted, Halting, PausedVm, Reclaimed};
use vmm::snapshot::{self, Haste};
use vmm::supervisor::{self, Ending, Start};

use super::args::BakeArgs;
use super::console_tail::ConsoleTail;
use super::ended::{GuestFailed, Interrupted, story, tell};
use super::exit::printable;
use super::session::Session;

/// Boots a guest, waits until it is ready, writes the image.
pub(super) fn run(args: BakeArgs) -> Result<()> {
    let BakeConfig { vm, ready, out, timeout, reclaim, api_socket } = BakeConfig::try_from(args)?;
    let guest = Guest::open(&vm)?;
    let mut session = Session::new(vm.serial, api_socket)?;
    // Before the boot: a build should not wait a minute to be told that its output exists.
    snapshot::check_target(&out)?;
    let tail = ConsoleTail::default();
    let (pattern, armed) = match ready {
        ReadyConfig::Serial(pattern) => {
            (Some(Box::new(ReadyPattern::new(pattern.regex().clone())) as Box<dyn ConsoleTap>), false)
        }
        ReadyConfig::Port => (None, true),
        // The device does that.
        ReadyConfig::Vsock(_) => (None, false),
    };
    let shows_console = session.shows_console();
    let machine = guest.boot(session.connections(Some(tail.watch(pattern)), armed)?)?;
    let deadline = Instant::now() + timeout.get();
    let ending = session.run(machine, Start::Running, Some(deadline), None)?;
    if !shows_console && is_failure(&ending) {
        tail.show();
    }
    match ending {
        Ending::Guest(StopReason::Ready, machine) => {
            let cancelled = || session.is_interrupted();
            let machine = match reclaim {
                Some(limit) => without_free_memory(*machine, limit, &cancelled)?,
                None => *machine,
            };
            let taken = snapshot::take(&machine, &out, Haste::NobodyWaits, &cancelled)?;
            let written = taken.commit(&cancelled)?;
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let (data, guest) = (mib(written.data_bytes), mib(written.guest_bytes));
            let image = printable(&out.display().to_string());
            tell(&image, &format!("is written, with {data:.1} MiB of the guest's {guest:.0} MiB of memory"));
            Ok(())
        }
        Ending::Guest(StopReason::Panic, _) => bail!(GuestFailed::Panic),
        Ending::Guest(StopReason::TripleFault, _) => bail!(GuestFailed::TripleFault),
        Ending::Guest(reason, _) => bail!(GuestFailed::EndedUnready(story(reason))),
        Ending::Late => bail!(GuestFailed::NotReady(timeout.get())),
        Ending::Signal(_) | Ending::Asked | Ending::Quit => bail!(Interrupted),
    }
}

/// Whether the guest failed to become ready, so that what it wrote last says why.
fn is_failure(ending: &Ending) -> bool {
    matches!(ending, Ending::Late)
        || matches!(ending, Ending::Guest(reason, _) if *reason != StopReason::Ready)
}

/// Lets a guest that is ready run on until it has given its free memory back.
fn without_free_memory(
    machine: PausedVm,
    limit: ReclaimLimit,
    cancelled: &dyn Fn() -> bool,
) -> Result<PausedVm> {
    let valve = machine.virtio().valve().cloned();
    let valve = valve.context("the VM has no balloon: --reclaim needs --balloon")?;
    let running = machine.resume()?;
    let returned = Arc::clone(running.returned());
    // To read the counter loses nothing: `halt` asks every thread.
    let how_far = machine::reclaim(&valve, limit.get(), &mut || cancelled() || returned.read().is_ok());
    let patience = Patience { deadline: Instant::now() + supervisor::PAUSE_LIMIT, is_over: cancelled };
    let Halted { vm, since: _, reason } = match running.halt_within(&patience)? {
        Halting::Halted(halted) => *halted,
        Halting::Busy(running, busy) => {
            // To take it apart would wait for the device. The process is about to end, and takes it along.
            std::mem::forget(running);
            return Err(machine::Error::Busy(busy).into());
        }
    };
    match (reason, how_far) {
        (None | Some(StopReason::Ready), Reclaimed::Whole) => Ok(vm),
        (None | Some(StopReason::Ready), Reclaimed::InPart) => {
            tracing::warn!(limit = ?limit.get(), "the guest has not given all of its free memory back");
            Ok(vm)
        }
        (None | Some(StopReason::Ready), Reclaimed::NoDriver) => bail!(
            "the guest does not say how much of its memory is free: its kernel needs a driver for the balloon, the module \
             virtio-balloon, by the time that it is ready"
        ),
        (Some(StopReason::Panic), _) => bail!(GuestFailed::Panic),
        (Some(StopReason::TripleFault), _) => bail!(GuestFailed::TripleFault),
        (Some(reason), _) => bail!(GuestFailed::EndedUnready(story(reason))),
    }
}
