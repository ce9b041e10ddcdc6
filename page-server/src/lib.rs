//! Delivers the pages of a restored guest as it touches them, through userfaultfd.
//!
//! ```text
//!   VMM --handshake, userfaultfd--> server -> session -> fault -> sys::uffd -> the VMM's memory
//!                                                |         |
//!                                           prefetch     source: file, pack, layers, behind checks, retries, a cache
//! ```
//!
//! Knows images and userfaultfds, and nothing of KVM or of the VMM: what the two say to each other is
//! [`snapshot_format::handoff`], and `PROTOCOL.md` says what each does when the other misbehaves.

pub mod access;
pub mod activation;
pub mod descriptors;
pub mod endpoint;
pub mod exporter;
pub mod fault;
pub mod image;
pub mod inline;
pub mod notify;
mod prefetch;
pub mod server;
pub mod session;
pub mod socket;
pub mod source;
pub mod stats;
mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod times;
pub mod trace;

/// Lets writes beyond the process's file size limit fail instead of ending the process. Call once, before anything is
/// written.
///
/// # Errors
/// The system does not let the signal be ignored.
pub fn survive_file_size_limit() -> std::io::Result<()> {
    sys::signals::survive_file_size_limit()
}
