//! What is delivered when a guest asks for a page: which of its neighbours, in what order, and how it is placed.
//!
//! Knows addresses, file offsets, a source and a userfaultfd. Knows no sockets and no sessions.

mod answer;
mod beside;
mod deliver;
mod grain;
mod huge;
mod space;

pub(crate) use deliver::{Deliverer, Ended, Place};
pub use grain::Grain;
pub(crate) use space::Space;
