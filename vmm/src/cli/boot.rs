//! `rekindle boot`.

use anyhow::Result;
use vmm::config::BootConfig;
use vmm::machine::Guest;
use vmm::supervisor::Start;

use super::args::BootArgs;
use super::ended;
use super::session::Session;

/// Boots a guest and runs it until it ends.
pub(super) fn run(args: BootArgs) -> Result<()> {
    let BootConfig { vm, api_socket } = BootConfig::try_from(args)?;
    let guest = Guest::open(&vm)?;
    let mut session = Session::new(vm.serial, api_socket)?;
    let machine = guest.boot(session.connections(None, false)?)?;
    ended::result(session.run(machine, Start::Running, None, None)?)
}
