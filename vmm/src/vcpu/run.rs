//! The thread of a running vCPU: from the moment it is given the vCPU to the moment it gives it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use vmm_sys_util::eventfd::EventFd;

use super::exits::Outcome;
use super::retry::Retry;
use super::{Error, Vcpu};
use crate::bus::Bus;
use crate::lifecycle::StopReason;
use crate::sys::kick::{self, Kickable};

/// What all vCPU threads of a VM share.
#[derive(Clone)]
pub struct Shared {
    /// The port space.
    pub pio: Arc<Bus>,
    /// The MMIO space.
    pub mmio: Arc<Bus>,
    /// Set while every vCPU is to stop; read by consoles whose write was interrupted, too.
    pub stop: Arc<AtomicBool>,
    /// Signalled by each thread as it returns.
    pub returned: Arc<EventFd>,
}

/// What a vCPU thread gives back. Whatever the end, no exit is half done.
#[derive(Debug)]
pub struct Returned {
    /// The vCPU, standing still.
    pub vcpu: Vcpu,
    /// Why it returned.
    pub end: End,
}

/// Why a vCPU thread returned.
#[derive(Debug)]
pub enum End {
    /// It was asked to.
    Kicked,
    /// The guest asked for it.
    Stopped(StopReason),
    /// It cannot go on.
    Failed(Error),
}

/// A vCPU on its thread.
#[derive(Debug)]
pub struct Thread {
    id: u32,
    handle: JoinHandle<Returned>,
}

impl Thread {
    /// Moves `vcpu` into a thread of its own and lets the guest run.
    pub fn start(vcpu: Vcpu, shared: Shared) -> std::io::Result<Self> {
        let id = vcpu.id;
        let builder = thread::Builder::new().name(format!("vcpu{id}")).stack_size(256 << 10);
        let handle = builder.spawn(move || {
            let returned = run(vcpu, &shared);
            // Nobody waits if the machine is being dropped; then there is nobody to tell.
            let _ = shared.returned.write(1);
            returned
        })?;
        Ok(Self { id, handle })
    }

    /// The vCPU's id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Makes the thread look at `Shared::stop`.
    pub fn kick(&self) {
        kick::kick(&self.handle);
    }

    /// Whether the thread has given its vCPU back.
    pub fn has_returned(&self) -> bool {
        self.handle.is_finished()
    }

    /// Takes the vCPU back, waiting for the thread to end.
    pub fn join(self) -> Returned {
        match self.handle.join() {
            Ok(returned) => returned,
            // A panic in a device is a bug of ours; it must not be taken for a guest at rest.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn run(mut vcpu: Vcpu, shared: &Shared) -> Returned {
    let kickable = Kickable::new(&mut vcpu.fd.fd);
    let end = until_told_otherwise(&mut vcpu, shared);
    let end = complete(&mut vcpu, shared, end);
    drop(kickable);
    Returned { vcpu, end }
}

/// Runs the guest until a kick, a reason to stop, or a failure.
fn until_told_otherwise(vcpu: &mut Vcpu, shared: &Shared) -> End {
    let mut retry = Retry::default();
    loop {
        // Cleared before the flag is read: a kick that comes after the read sets it again.
        kick::disarm(&mut vcpu.fd.fd);
        if shared.stop.load(Ordering::SeqCst) {
            return End::Kicked;
        }
        match vcpu.fd.step(&shared.pio, &shared.mmio) {
            Outcome::Continue | Outcome::Interrupted => retry.reset(),
            Outcome::TryAgain => match retry.refused(Instant::now()) {
                Some(pause) => thread::sleep(pause),
                None => return end(vcpu.id, Outcome::TryAgain),
            },
            outcome => return end(vcpu.id, outcome),
        }
    }
}

/// Completes what the last exit left open: user space has answered a read, but the kernel takes the answer into the
/// guest's registers only on the next `KVM_RUN`, which `immediate_exit` makes return before the guest runs
/// (Documentation/virt/kvm/api.rst, 4.10: "the corresponding operations are complete … only after userspace has
/// re-entered the kernel with KVM_RUN").
///
/// Completion may bring the next part of the same instruction (an access that crosses a page, the rest of a string
/// instruction), which is served here too.
fn complete(vcpu: &mut Vcpu, shared: &Shared, mut so_far: End) -> End {
    if matches!(so_far, End::Failed(_) | End::Stopped(StopReason::TripleFault)) {
        return so_far;
    }
    loop {
        kick::arm(&mut vcpu.fd.fd);
        match vcpu.fd.step(&shared.pio, &shared.mmio) {
            // A refusal leaves nothing open either: KVM refuses before it looks at what is pending, and only a vCPU that
            // waits for INIT or SIPI, or a VM of which no vCPU has entered the guest yet. It would refuse for ever.
            Outcome::Interrupted | Outcome::TryAgain => return so_far,
            Outcome::Continue => {}
            outcome => {
                so_far = end(vcpu.id, outcome);
                if matches!(so_far, End::Failed(_) | End::Stopped(StopReason::TripleFault)) {
                    return so_far;
                }
            }
        }
    }
}

fn end(vcpu: u32, outcome: Outcome) -> End {
    match outcome {
        Outcome::Continue | Outcome::Interrupted => End::Kicked,
        Outcome::Stop(reason) => End::Stopped(reason),
        Outcome::TryAgain => {
            let source = std::io::Error::from_raw_os_error(libc::EAGAIN);
            End::Failed(Error::NoWorker { vcpu, source })
        }
        Outcome::Failed(reason) => End::Failed(Error::Run { vcpu, reason }),
        Outcome::BadMemory(errno) => {
            End::Failed(Error::GuestMemory { vcpu, source: std::io::Error::from_raw_os_error(errno) })
        }
    }
}
