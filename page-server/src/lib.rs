//! Delivers the pages of a restored guest as it touches them, through userfaultfd.

pub mod image;
pub mod source;
