//! virtio devices (virtio 1.2) as a driver sees them: registers, queues, and what each type of device adds.
//!
//! Knows requests and answers, and nothing of what they are good for: that is [`crate::exercise`]. Everything runs at
//! CPL 3, register accesses included. An answer that the rules do not allow is a [`Problem`].

pub mod area;
pub mod balloon;
pub mod blk;
pub mod net;
pub mod queue;
pub mod rng;
pub mod transport;
pub mod vsock;

pub use transport::{REGISTERS, acknowledge};

/// What a device has done that it must not, in words.
pub type Problem = &'static str;
