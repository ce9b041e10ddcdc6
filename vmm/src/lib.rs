//! A virtual machine monitor for Linux/KVM whose centre is the snapshot.
//!
//! The library boots a guest or restores one, and either way hands out a *paused* machine whose first act is to be
//! resumed. It parses no arguments and prints nothing, but for the last words of a process whose memory is gone
//! (`sys::bus_error`): that is the `rekindle` binary's part. `ARCHITECTURE.md` is the tour of the house.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("Rekindle runs on Linux on x86_64");

pub mod arch;
pub mod boot;
pub mod bus;
pub mod clock;
pub mod config;
pub mod control;
pub mod descriptors;
pub mod device;
pub mod irq;
pub mod lifecycle;
pub mod machine;
pub mod memory;
mod repeated;
pub mod restore;
pub mod snapshot;
pub mod socket;
pub mod supervisor;
mod sys;
pub mod vcpu;

#[cfg(test)]
mod descriptors_test;
#[cfg(test)]
mod repeated_test;

/// Turns the death of a file that guest memory is mapped from (SIGBUS) into an orderly end of the process, with exit
/// code 3 and a message. Call once, before a guest is restored and before the terminal is made raw.
pub fn guard_mapped_files() -> std::io::Result<()> {
    sys::bus_error::install()
}

/// Lets writes beyond the process's file size limit fail instead of ending the process. Call once, before a guest runs.
pub fn survive_file_size_limit() -> std::io::Result<()> {
    sys::signals::survive_file_size_limit()
}

/// Makes the terminal on stdin raw by `change`. From here on signals that end or stop the process give it back first.
pub fn make_terminal_raw(change: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
    sys::endings::make_raw(change)
}

/// The terminal on stdin has been given back as it was.
pub fn terminal_is_given_back() {
    sys::endings::is_cooked();
}

/// Has the signals that end a process at once, SIGQUIT for example, leave no socket behind and no terminal raw. Call
/// when there are any, before the guest runs.
pub fn guard_sockets_and_terminal() -> std::io::Result<()> {
    if sys::leftover::is_any() || sys::endings::is_raw() { sys::endings::install() } else { Ok(()) }
}

/// Keeps all threads on one heap, which saves each vCPU's thread the making of its own. Call once, before any other thread
/// is started.
pub fn share_heap() {
    sys::heap::share();
}
