//! All unsafe code of this crate: ioctls on a userfaultfd, the process behind a socket, signals, and descriptors that a
//! service manager passes.
//!
//! Nothing here knows a session. What the `userfaultfd` crate reaches is its: waking, unregistering. What it does not is
//! declared here: reading events without ever waiting, placing pages with the number of those that were placed,
//! write-protected, and poisoning.

#![expect(unsafe_code, reason = "this is the one place for it: see the module's header")]

pub(crate) mod huge;
pub(crate) mod inherited;
pub(crate) mod peer;
pub(crate) mod signals;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;
pub(crate) mod uffd;
