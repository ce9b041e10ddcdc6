//! What can go wrong with the set.

use super::super::transport;
use super::super::{SLOTS, blk, net, vsock};
use super::Outside;

/// Why the devices could not be made, restored or started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are more than places for them.
    #[error("{count} virtio devices do not fit into {SLOTS} slots")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// An eventfd or a thread could not be had.
    #[error("cannot set up a virtio device")]
    SetUp(#[source] transport::Error),
    /// A device refused its state.
    #[error("restoring device section `{section}`")]
    Restore {
        /// The section.
        section: String,
        /// Why.
        #[source]
        source: transport::Error,
    },
    /// What is behind a disk cannot be used.
    #[error("cannot use disk `{id}`")]
    Disk {
        /// The disk's id.
        id: String,
        /// Why.
        #[source]
        source: blk::Error,
    },
    /// Another file was given for a disk that the image does not have.
    #[error("the image has no disk `{id}`; it has {present}")]
    NoSuchDisk {
        /// The id that was given.
        id: String,
        /// Those that there are.
        present: String,
    },
    /// What is behind a network interface cannot be used.
    #[error("cannot use network interface `{id}`")]
    Net {
        /// The interface's id.
        id: String,
        /// Why.
        #[source]
        source: net::Error,
    },
    /// Another TAP was given for an interface that the image does not have.
    #[error("the image has no network interface `{id}`; it has {present}")]
    NoSuchNet {
        /// The id that was given.
        id: String,
        /// Those that there are.
        present: String,
    },
    /// The host's side of the socket device cannot be had.
    #[error("cannot set up the vsock device")]
    Vsock(#[source] vsock::Error),
    /// Another socket was given for a device that the image does not have.
    #[error("the image has no vsock device")]
    NoVsock,
    /// The image names what is not its own, and nobody has said that it may have it. Nothing was opened.
    #[error("the image names what is not its own: {}", listed(outside))]
    Untrusted {
        /// All that it names without leave.
        outside: Vec<Outside>,
    },
    /// Two devices of the image claim one place.
    #[error("two virtio devices were saved in slot {slot}")]
    SameSlot {
        /// The place.
        slot: u8,
    },
}

fn listed(outside: &[Outside]) -> String {
    let listed: Vec<String> = outside.iter().map(Outside::to_string).collect();
    listed.join("; ")
}
