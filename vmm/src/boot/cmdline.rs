//! The kernel command line. What stands in it is the user's and the kernel's business.

use vm_memory::{Bytes, GuestAddress};

use super::Error;
use crate::memory::GuestRam;
use crate::memory::layout;

/// Room in guest memory, in bytes, NUL included.
pub(super) const ROOM: u64 = layout::CMDLINE_MAX;
/// What a kernel reads that says nothing about it: Linux's `COMMAND_LINE_SIZE` on x86 is 2048, NUL included.
pub(super) const DEFAULT_MAX: u64 = 2047;

/// Parameters for the kernel, added behind its own. What follows ` -- ` is the first process's, and stays behind them
/// (Linux's `parse_args`).
#[must_use]
pub fn with_parameters(cmdline: &str, parameters: impl IntoIterator<Item = String>) -> String {
    let mut words: Vec<&str> = cmdline.split(' ').collect();
    let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    let parameters: Vec<String> = parameters.into_iter().collect();
    words.splice(end..end, parameters.iter().map(String::as_str));
    words.join(" ")
}

/// `max` counts bytes without the NUL and is less than [`ROOM`].
pub(super) fn check(cmdline: &str, max: u64) -> Result<(), Error> {
    if let Some(at) = cmdline.bytes().position(|byte| byte == 0) {
        return Err(Error::CmdlineNul { at });
    }
    let len = cmdline.len() as u64;
    if len > max { Err(Error::CmdlineTooLong { len, max }) } else { Ok(()) }
}

/// Call only after [`check`].
pub(super) fn write(cmdline: &str, memory: &GuestRam) -> Result<(), Error> {
    let bytes = [cmdline.as_bytes(), &[0]].concat();
    memory
        .write_slice(&bytes, GuestAddress(layout::CMDLINE))
        .map_err(|e| Error::write("the command line", layout::CMDLINE, e))
}
