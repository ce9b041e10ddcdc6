//! All unsafe code of this crate: ioctls on a userfaultfd, and signals.
//!
//! Nothing here knows a session. What the `userfaultfd` crate reaches is its: reading events, waking. What it does not
//! is declared here: placing pages with the number of those that were placed, write-protected, and poisoning.

#![expect(unsafe_code, reason = "this is the one place for it: see the module's header")]

pub(crate) mod huge;
pub(crate) mod signals;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;
pub(crate) mod uffd;
