//! All unsafe code of this crate: thin, safe wrappers over memory mappings, ioctls and signals.
//!
//! Nothing here knows a VM's types. Functions take descriptors, lengths and pointers' owners, one unsafe operation to
//! a block, each with the fact it rests on.

#![expect(unsafe_code, reason = "this is the one place for it: see the module's header")]

pub(crate) mod bus_error;
pub(crate) mod clone;
pub(crate) mod endings;
pub(crate) mod heap;
pub(crate) mod holes;
pub(crate) mod kick;
pub(crate) mod kvm;
pub(crate) mod leftover;
pub(crate) mod ofd;
#[cfg(test)]
pub(crate) mod page_stub;
#[cfg(test)]
pub(crate) mod page_tricks;
pub(crate) mod pagemap;
pub(crate) mod ram;
pub(crate) mod signals;
pub(crate) mod stream;
pub(crate) mod tap;
pub(crate) mod uffd;
pub(crate) mod uring;
pub(crate) mod vectored;
