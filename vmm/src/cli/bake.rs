//! `rekindle bake`.

use std::time::Instant;

use anyhow::{Result, bail};
use vmm::config::{BakeConfig, ReadyConfig};
use vmm::device::serial::{ConsoleTap, ReadyPattern};
use vmm::lifecycle::StopReason;
use vmm::machine::Guest;
use vmm::snapshot;
use vmm::supervisor::Ending;

use super::args::BakeArgs;
use super::ended::{GuestFailed, Interrupted, story};
use super::session::Session;

/// Boots a guest, waits until it is ready, writes the image.
pub(super) fn run(args: BakeArgs) -> Result<()> {
    let BakeConfig { vm, ready, out, timeout, api_socket } = BakeConfig::try_from(args)?;
    let guest = Guest::open(&vm)?;
    let mut session = Session::new(vm.serial, api_socket)?;
    // Before the boot: a build should not wait a minute to be told that its output exists.
    snapshot::check_target(&out)?;
    let (tap, armed) = match ready {
        ReadyConfig::Serial(pattern) => {
            (Some(Box::new(ReadyPattern::new(pattern.regex().clone())) as Box<dyn ConsoleTap>), false)
        }
        ReadyConfig::Port => (None, true),
    };
    let machine = guest.boot(session.connections(tap, armed)?)?;
    let deadline = Instant::now() + timeout.get();
    match session.run(machine, Some(deadline), None)? {
        Ending::Guest(StopReason::Ready, machine) => {
            let cancelled = || session.is_interrupted();
            snapshot::take(&machine, &out, &cancelled)?.commit(&cancelled)?;
            Ok(())
        }
        Ending::Guest(StopReason::Panic, _) => bail!(GuestFailed::Panic),
        Ending::Guest(StopReason::TripleFault, _) => bail!(GuestFailed::TripleFault),
        Ending::Guest(reason, _) => bail!(GuestFailed::EndedUnready(story(reason))),
        Ending::Late => bail!(GuestFailed::NotReady(timeout.get())),
        Ending::Signal(_) | Ending::Asked | Ending::Quit => bail!(Interrupted),
    }
}
