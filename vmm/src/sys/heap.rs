//! The heap: one for all threads.
//!
//! glibc gives every new thread an arena of its own (malloc(3), `M_ARENA_MAX`): four system calls on 128 MiB of address
//! space and fresh pages, all before a vCPU's thread runs its guest for the first time. Our threads allocate too rarely
//! to stand in each other's way.

/// Keeps threads that start from now on in the main arena. Without effect on other C libraries.
pub(crate) fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes plain numbers and is thread-safe; nothing depends on how many arenas there are.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
