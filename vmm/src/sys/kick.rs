//! Getting a vCPU thread out of `KVM_RUN`, without a race.
//!
//! A signal alone is lost when it arrives just before the thread enters `KVM_RUN`. So the handler also sets
//! `immediate_exit` in the `kvm_run` page of the thread it interrupts, which makes the next `KVM_RUN` return EINTR at
//! once (Documentation/virt/kvm/api.rst, "immediate_exit"). The handler is installed without SA_RESTART, so that a
//! blocking write of the console returns as well.

use std::cell::Cell;
use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use kvm_ioctls::VcpuFd;
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

thread_local! {
    /// `immediate_exit` of the vCPU that this thread runs; null on every other thread.
    ///
    /// Const-initialised and without a destructor, so that reading it in a signal handler is a plain load.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// Installs the handler for the whole process. Call before the first vCPU thread is started.
pub(crate) fn install() -> io::Result<()> {
    register_signal_handler(SIGRTMIN(), on_kick).map_err(io::Error::from)
}

extern "C" fn on_kick(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: `Kickable` keeps the pointer valid while it is set; a byte is aligned. The code that this handler
        // interrupts reaches the byte through `arm` and `disarm` alone, atomically as well.
        let flag = unsafe { AtomicU8::from_ptr(flag) };
        flag.store(1, Ordering::SeqCst);
    }
}

/// Marks the current thread as the one that runs a vCPU, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Kickable(());

impl Kickable {
    /// From here on a kick of this thread makes `vcpu` leave `KVM_RUN`. Drop the value before `vcpu` moves or dies:
    /// the page that holds the flag is unmapped with it.
    pub(crate) fn new(vcpu: &mut VcpuFd) -> Self {
        IMMEDIATE_EXIT.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        // A mask outlives exec: whoever started us may have blocked the signal.
        if let Err(e) = unblock_signal(SIGRTMIN()) {
            tracing::warn!(error = %e, "this vCPU may be slow to stop");
        }
        Self(())
    }
}

/// Makes the next `KVM_RUN` of the vCPU enter the guest (`immediate_exit` 0), unless a kick comes.
pub(crate) fn disarm(vcpu: &mut VcpuFd) {
    set_immediate_exit(vcpu, 0);
}

/// Makes the next `KVM_RUN` of the vCPU return before it enters the guest.
pub(crate) fn arm(vcpu: &mut VcpuFd) {
    set_immediate_exit(vcpu, 1);
}

fn set_immediate_exit(vcpu: &mut VcpuFd, value: u8) {
    let flag = &raw mut vcpu.get_kvm_run().immediate_exit;
    // SAFETY: the byte lies in the mapped `kvm_run` page of a vCPU that is borrowed here; the only other access is the
    // handler's above, on this thread, atomic as well. Sequentially consistent, so that the stop flag is read after.
    unsafe { AtomicU8::from_ptr(flag) }.store(value, Ordering::SeqCst);
}

impl Drop for Kickable {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(ptr::null_mut());
    }
}

/// Kicks `thread`. It may have finished already; it cannot have been joined, because we hold its handle.
pub(crate) fn kick<T>(thread: &JoinHandle<T>) {
    // SAFETY: a thread that is not joined has a valid `pthread_t`. ESRCH for one that has finished is fine.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGRTMIN()) };
}
