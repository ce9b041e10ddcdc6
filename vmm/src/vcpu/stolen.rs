//! The guest's record of stolen time (Linux's arch/x86/include/uapi/asm/kvm_para.h, `struct kvm_steal_time`): 64 bytes
//! a vCPU in guest memory, where KVM adds up for how long the vCPU was ready and did not run.
//!
//! A guest that stood still finds its clocks advanced, and its scheduler charges all of that to whatever task was on the
//! CPU: after an hour, other tasks run for an hour before it has its turn again. A kernel with
//! `CONFIG_PARAVIRT_TIME_ACCOUNTING` charges the time in this record to nobody (`update_rq_clock_task`), and every kernel
//! shows it as stolen in `/proc/stat`, so the time for which we kept the guest from running is entered there. KVM adds to
//! what it finds (`record_steal_time`).

use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};

use super::{Vcpu, VcpuFd};
use crate::memory::GuestRam;

#[cfg(test)]
#[path = "stolen_test.rs"]
mod stolen_test;

/// `MSR_KVM_STEAL_TIME`: the record's address, and whether there is one.
const STEAL_TIME: u32 = 0x4b56_4d03;
/// Bit 0 of the MSR (`KVM_MSR_ENABLED`). The record is aligned to its size, so the other five are no address.
const ENABLED: u64 = 1;
const ALIGNMENT: u64 = 64;

/// Where the record is that this value of the MSR speaks of. Its first eight bytes are the time, in ns.
fn record(msr: u64) -> Option<GuestAddress> {
    (msr & ENABLED != 0).then_some(GuestAddress(msr & !(ALIGNMENT - 1)))
}

impl Vcpu {
    /// Enters `lost` into this vCPU's record, if its guest keeps one.
    pub fn account_stolen(&self, memory: &GuestRam, lost: Duration) {
        if !self.msrs.contains(&STEAL_TIME) {
            return;
        }
        match self.fd.msrs(&[STEAL_TIME]) {
            Ok(msrs) => {
                msrs.first()
                    .and_then(|msr| record(msr.data))
                    .into_iter()
                    .for_each(|at| add(memory, at, lost));
            }
            Err(error) => {
                tracing::debug!(vcpu = self.id, %error, "cannot read where stolen time is recorded")
            }
        }
    }
}

/// A record that does not lie in memory is the guest's own mistake, and KVM passes over it as well.
fn add(memory: &GuestRam, record: GuestAddress, lost: Duration) {
    let lost = u64::try_from(lost.as_nanos()).unwrap_or(u64::MAX);
    let added = memory.read_obj::<u64>(record).and_then(|ns| memory.write_obj(ns.wrapping_add(lost), record));
    if let Err(error) = added {
        tracing::debug!(%error, "the guest's record of stolen time lies nowhere");
    }
}
