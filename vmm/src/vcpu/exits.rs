//! What a vCPU's exits mean: port and MMIO accesses go to the buses, the rest ends the run.

use std::io;

use kvm_ioctls::VcpuExit;

use super::fd::KvmVcpu;
use crate::bus::Bus;
use crate::lifecycle::{Effect, StopReason};
use crate::sys;

/// What came of one `KVM_RUN`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The exit is served; the guest may go on.
    Continue,
    /// The exit is served, and the guest is to stop after it.
    Stop(StopReason),
    /// `KVM_RUN` returned because of a kick, or at once because it was told to; nothing is pending.
    Interrupted,
    /// `KVM_RUN` refused for now, with EAGAIN: either a vCPU that waited for INIT or SIPI has got it
    /// (`kvm_arch_vcpu_ioctl_run`), or KVM cannot start the kernel thread of this VM, because the limit of processes is
    /// reached (`kvm_mmu_post_init_vm`; from Linux 6.13 on at the first `KVM_RUN` of a VM). Nothing is pending.
    TryAgain,
    /// KVM cannot go on.
    Failed(String),
    /// The kernel could not read or write guest memory.
    BadMemory(i32),
}

impl From<Effect> for Outcome {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Continue => Self::Continue,
            Effect::Stop(reason) => Self::Stop(reason),
        }
    }
}

impl KvmVcpu {
    /// Enters the guest once and serves the exit.
    pub(super) fn step(&mut self, pio: &Bus, mmio: &Bus) -> Outcome {
        match self.fd.run() {
            Ok(VcpuExit::IoIn(..) | VcpuExit::IoOut(..)) => self.port_io(pio),
            Ok(VcpuExit::MmioRead(addr, data)) => {
                mmio.read(addr, data);
                Outcome::Continue
            }
            Ok(VcpuExit::MmioWrite(addr, data)) => mmio.write(addr, data).into(),
            Ok(VcpuExit::Shutdown) => Outcome::Stop(StopReason::TripleFault),
            Ok(VcpuExit::Intr) => Outcome::Interrupted,
            // Comes with EFAULT on kernels that say where it happened.
            Ok(VcpuExit::MemoryFault { .. }) => Outcome::BadMemory(libc::EFAULT),
            Ok(VcpuExit::FailEntry(reason, cpu)) => Outcome::Failed(format!(
                "hardware refuses to enter the guest (reason {reason:#x} on CPU {cpu})"
            )),
            Ok(VcpuExit::InternalError) => {
                let suberror = sys::kvm::internal_suberror(&mut self.fd);
                Outcome::Failed(format!("KVM internal error, suberror {suberror}"))
            }
            Ok(exit) => Outcome::Failed(format!("unexpected exit {exit:?}")),
            Err(e) => match e.errno() {
                libc::EINTR => Outcome::Interrupted,
                libc::EAGAIN => Outcome::TryAgain,
                errno @ (libc::EFAULT | libc::EHWPOISON) => Outcome::BadMemory(errno),
                errno => Outcome::Failed(io::Error::from_raw_os_error(errno).to_string()),
            },
        }
    }

    /// Serves every element of a string instruction on its own: a device sees what the CPU does.
    fn port_io(&mut self, pio: &Bus) -> Outcome {
        let Some(access) = sys::kvm::port_io(&mut self.fd, self.run_bytes) else {
            return Outcome::Failed("KVM described a port access outside its own page".into());
        };
        let port = u64::from(access.port);
        if !access.is_in {
            return pio.write_string(port, access.data, access.size).into();
        }
        access.data.chunks_exact_mut(access.size).for_each(|element| pio.read(port, element));
        Outcome::Continue
    }
}
