//! `rekindle pause`, `resume` and `stop`.

use anyhow::Result;
use vmm::control::Request;

use super::args::SocketArgs;

/// Lets the guest stand still; a paused one stays so.
pub(super) fn pause(args: &SocketArgs) -> Result<()> {
    ask(args, &Request::Pause)
}

/// Lets the guest run; a running one goes on.
pub(super) fn resume(args: &SocketArgs) -> Result<()> {
    ask(args, &Request::Resume)
}

/// Ends the VM.
pub(super) fn stop(args: &SocketArgs) -> Result<()> {
    ask(args, &Request::Stop)
}

fn ask(args: &SocketArgs, request: &Request) -> Result<()> {
    args.socket.connect()?.ask(request)?;
    Ok(())
}
