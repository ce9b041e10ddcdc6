//! The project's chores, as a library: what `cargo xtask` can do, without its command line.
//!
//! Each chore installs what it needs and finds missing: Debian packages as root, else it prints the command
//! that would.

pub mod bench;
pub mod check;
pub mod debian;
pub mod demo;
pub mod guests;
pub mod host;
pub mod lab;
pub mod place;
pub mod process;
pub mod test;
pub mod trace;
