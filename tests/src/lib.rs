//! Harness for the tests that drive the real `rekindle` on a real KVM, and the real `rekindle-pages` beside it.
//!
//! A test program is a list of [`Case`]s given to [`main`]. A case says what it needs of the host, and is *ignored with
//! the reason* where that is not there. In it, a [`Vm`] is a running `rekindle` with its console in hand, a
//! [`PageServer`] a running `rekindle-pages`, an [`Image`] is a directory that remembers what it was, a [`Scratch`] is a
//! place that must be left clean, and everything that is waited for has a deadline ([`patience`]).

pub mod host_pages;
mod huge;
mod image;
pub mod leftover;
mod pages;
pub mod patience;
pub mod proc;
mod program;
pub mod queues;
mod scratch;
mod stall;
pub mod state;
mod stream;
mod suite;
mod sys;
pub mod verbs;
mod vm;

pub use huge::HugePages;
pub use image::{Fingerprint, Image};
pub use pages::PageServer;
pub use program::{Done, Launch, programs, rekindle};
pub use scratch::Scratch;
pub use stall::Stall;
pub use stream::Stream;
pub use suite::{Case, Need, main, note};
pub use vm::Vm;
