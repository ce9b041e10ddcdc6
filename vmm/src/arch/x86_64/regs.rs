//! The registers that the first vCPU starts a kernel with, for each boot protocol.
//!
//! Other vCPUs are left as KVM creates them: they wait for the kernel's INIT and SIPI.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_sregs};

use crate::arch::x86_64::{gdt, page_tables};
use crate::memory::layout;

#[cfg(test)]
#[path = "regs_test.rs"]
mod regs_test;

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Always reads as one (Intel SDM vol. 1, 3.4.3); IF is clear, as both protocols demand.
const RFLAGS_RESERVED: u64 = 1 << 1;

/// How a kernel wants to be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The 64-bit Linux boot protocol: long mode with identity paging, RSI points to `struct boot_params`
    /// (Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
    Linux64,
    /// Xen's PVH: 32-bit protected mode without paging, EBX points to `struct hvm_start_info`
    /// (Xen, docs/misc/pvh.pandoc).
    Pvh,
}

/// Where and how the first vCPU enters the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// The state the processor is in.
    pub protocol: Protocol,
    /// Guest-physical address of the first instruction.
    pub rip: u64,
    /// Guest-physical address of what the kernel is told: goes to RSI for [`Protocol::Linux64`], to EBX for
    /// [`Protocol::Pvh`].
    pub boot_data: u64,
}

impl EntryPoint {
    /// The general registers, for `KVM_SET_REGS`.
    #[must_use]
    pub fn regs(&self) -> kvm_regs {
        let regs = kvm_regs { rip: self.rip, rflags: RFLAGS_RESERVED, ..Default::default() };
        match self.protocol {
            Protocol::Linux64 => kvm_regs {
                rsi: self.boot_data,
                // Not part of the protocol; a guest that pushes before it has a stack of its own finds
                // memory.
                rsp: layout::BOOT_STACK,
                rbp: layout::BOOT_STACK,
                ..regs
            },
            Protocol::Pvh => kvm_regs { rbx: self.boot_data, ..regs },
        }
    }

    /// The special registers, for `KVM_SET_SREGS`: those of a fresh vCPU (`KVM_GET_SREGS`, which knows the
    /// APIC base), changed to what the protocol demands.
    #[must_use]
    pub fn sregs(&self, fresh: kvm_sregs) -> kvm_sregs {
        let data = gdt::segment(gdt::DATA, self.protocol);
        let flat = kvm_sregs {
            cs: gdt::segment(gdt::CODE, self.protocol),
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ss: data,
            tr: gdt::segment(gdt::TASK, self.protocol),
            gdt: kvm_dtable { base: layout::GDT, limit: gdt::limit(), padding: [0; 3] },
            // No interrupt is expected before the kernel has its own table: one would be a triple fault.
            idt: kvm_dtable { base: 0, limit: 0, padding: [0; 3] },
            ..fresh
        };
        match self.protocol {
            Protocol::Linux64 => kvm_sregs {
                cr0: CR0_PE | CR0_ET | CR0_PG,
                cr3: page_tables::CR3,
                cr4: CR4_PAE,
                efer: EFER_LME | EFER_LMA,
                ..flat
            },
            Protocol::Pvh => kvm_sregs { cr0: CR0_PE | CR0_ET, cr3: 0, cr4: 0, efer: 0, ..flat },
        }
    }
}
