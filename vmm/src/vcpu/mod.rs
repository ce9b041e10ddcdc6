//! One virtual CPU: its run loop, its exits, and its complete state.
//!
//! A [`Vcpu`] is a plain value. While the guest runs, it has been moved into a thread ([`run`]); when the thread
//! returns it, the vCPU stands still, with no exit half done. So "paused" is ownership, not a flag.

mod exits;
mod fd;
mod restore;
mod retry;
pub mod run;
mod save;
mod saved;
mod stolen;

#[cfg(test)]
mod order_test;
#[cfg(test)]
mod recorder;
#[cfg(test)]
mod retry_test;
#[cfg(test)]
mod saved_test;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use kvm_ioctls::VmFd;

use crate::arch::x86_64::msr;
use crate::arch::x86_64::regs::EntryPoint;

pub use fd::{KvmVcpu, Traits, VcpuFd};
pub use run::Shared;

/// Why a vCPU could not be made, run, saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A KVM call on a vCPU failed.
    #[error("cannot {call} of vCPU {vcpu}")]
    Ioctl {
        /// The call, as a verb and its object: "read the LAPIC".
        call: &'static str,
        /// The vCPU's id.
        vcpu: u32,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused to set a model-specific register.
    #[error("KVM refuses to set MSR {index:#x} of vCPU {vcpu} to {data:#x}")]
    MsrRefused {
        /// The vCPU's id.
        vcpu: u32,
        /// The MSR's number.
        index: u32,
        /// The value that was refused.
        data: u64,
    },
    /// A saved vCPU has a field that no vCPU can have.
    #[error("the saved state of vCPU {vcpu} is impossible: {field} {problem}")]
    Impossible {
        /// The vCPU's id.
        vcpu: u32,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The guest's TSC runs at another frequency than this host can give it.
    #[error(
        "the guest's TSC runs at {guest} kHz and this host's at {host} kHz, and the host cannot scale it"
    )]
    TscFrequency {
        /// The saved frequency, kHz.
        guest: u32,
        /// The host's, kHz.
        host: u32,
    },
    /// `KVM_RUN` failed or left the guest for a reason that no VMM can serve.
    #[error("vCPU {vcpu} cannot go on: {reason}")]
    Run {
        /// The vCPU's id.
        vcpu: u32,
        /// What KVM reported.
        reason: String,
    },
    /// `KVM_RUN` answers EAGAIN and goes on to: KVM starts a kernel thread for the VM when its first vCPU enters the
    /// guest, and that thread counts against the limits of this process.
    #[error(
        "vCPU {vcpu} cannot enter the guest: KVM cannot start its worker thread, the limit of processes is reached"
    )]
    NoWorker {
        /// The vCPU's id.
        vcpu: u32,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// Reading guest memory failed in the kernel.
    #[error("vCPU {vcpu} touched guest memory that cannot be read")]
    GuestMemory {
        /// The vCPU's id.
        vcpu: u32,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
}

/// One vCPU that is not running.
#[derive(Debug)]
pub struct Vcpu {
    // Configuration.
    id: u32,
    /// The MSRs that are saved, in the order in which they are written back.
    msrs: Vec<u32>,
    // Connections.
    fd: KvmVcpu,
}

/// A vCPU that KVM has made and that nobody has given a state: it can boot or be restored.
#[derive(Debug)]
pub struct Blank {
    id: u32,
    fd: KvmVcpu,
}

impl Blank {
    /// `KVM_CREATE_VCPU`.
    pub fn create(vm: &VmFd, id: u32, traits: Traits) -> Result<Self, Error> {
        let fd = vm.create_vcpu(id.into()).map_err(|e| Error::Ioctl {
            call: "create the descriptor",
            vcpu: id,
            source: e.into(),
        })?;
        Ok(Self { id, fd: KvmVcpu::new(fd, traits, vm.run_size()) })
    }

    /// A vCPU that is about to boot: with its CPUID and what firmware would have set. Which of `candidates` are MSRs
    /// that this host gives out and takes back is found out here.
    pub fn boot(self, cpuid: &[kvm_cpuid_entry2], candidates: &[u32]) -> Result<Vcpu, Error> {
        let Self { id, fd } = self;
        let mut vcpu = Vcpu { id, msrs: Vec::new(), fd };
        vcpu.configure(cpuid, candidates)?;
        Ok(vcpu)
    }
}

impl Vcpu {
    /// The id given to KVM, which is also the initial APIC id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What the guest is shown by CPUID.
    pub fn cpuid(&self) -> Result<CpuId, Error> {
        self.fd.cpuid().map_err(self.failed("read the CPUID"))
    }

    fn configure(&mut self, cpuid: &[kvm_cpuid_entry2], candidates: &[u32]) -> Result<(), Error> {
        let cpuid = CpuId::from_entries(cpuid).map_err(|_| Error::Impossible {
            vcpu: self.id,
            field: "cpuid",
            problem: format!("has {} entries, more than KVM takes", cpuid.len()),
        })?;
        self.fd.set_cpuid(&cpuid).map_err(self.failed("set the CPUID"))?;
        // What a kind of KVM does not have of these, its guests do without.
        for msr in msr::at_boot() {
            self.fd.set_msrs(&[msr]).map_err(self.failed("set an MSR"))?;
        }
        self.msrs = self.saveable(candidates)?;
        Ok(())
    }

    /// KVM's list of MSRs holds some that this guest's CPUID or this host's kind of KVM does not let us set. A fresh
    /// vCPU tells which: what it reads may be written back at no harm.
    fn saveable(&self, candidates: &[u32]) -> Result<Vec<u32>, Error> {
        let readable = self.fd.msrs(candidates).map_err(self.failed("read the MSRs"))?;
        let mut rest = &readable[..];
        let mut saveable = Vec::with_capacity(readable.len());
        while !rest.is_empty() {
            let taken = self.fd.set_msrs(rest).map_err(self.failed("try the MSRs"))?.min(rest.len());
            saveable.extend(rest[..taken].iter().map(|msr| msr.index));
            rest = rest.get(taken + 1..).unwrap_or_default();
        }
        Ok(saveable)
    }

    /// Gives a fresh vCPU the registers with which its kernel is entered.
    pub fn enter_at(&mut self, entry: &EntryPoint) -> Result<(), Error> {
        let fresh = self.fd.sregs().map_err(self.failed("read the system registers"))?;
        self.fd.set_sregs(&entry.sregs(fresh)).map_err(self.failed("set the system registers"))?;
        self.fd.set_regs(&entry.regs()).map_err(self.failed("set the registers"))
    }

    /// Tells the guest that it stood still (`PVCLOCK_GUEST_STOPPED`), so that its watchdogs do not bark.
    ///
    /// A guest without kvmclock has nobody to tell: KVM answers EINVAL (`kvm_set_guest_paused`).
    pub fn mark_stopped(&self) {
        if let Err(e) = self.fd.kvmclock_ctrl() {
            tracing::debug!(vcpu = self.id, error = %e, "guest has no kvmclock to mark as stopped");
        }
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let vcpu = self.id;
        move |source| Error::Ioctl { call, vcpu, source }
    }
}
