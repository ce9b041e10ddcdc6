//! The segments that the first vCPU starts with, as descriptors in guest memory and as KVM's register values.
//!
//! Selectors are those of the Linux boot protocol ("64-bit boot protocol": `__BOOT_CS` 0x10, `__BOOT_DS`
//! 0x18); PVH does not care for selectors, so both protocols use the same.

use kvm_bindings::kvm_segment;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::arch::x86_64::regs::Protocol;
use crate::memory::GuestRam;
use crate::memory::layout;

#[cfg(test)]
#[path = "gdt_test.rs"]
mod gdt_test;

/// Selector of the code segment, `__BOOT_CS`.
pub const CODE: u16 = 0x10;
/// Selector of the data segment, `__BOOT_DS`.
pub const DATA: u16 = 0x18;
/// Selector of the task state segment. Nothing ever uses the TSS, but VMX wants a valid TR.
pub const TASK: u16 = 0x20;

/// Descriptors in the table: two empty, code, data, and the TSS, which takes two in 64-bit mode.
const ENTRIES: usize = 6;

/// A segment descriptor (Intel SDM vol. 3A, 3.4.5) with base 0.
///
/// `attributes` are bits 40 to 55 of the descriptor without the limit's high bits: type, S, DPL, P; AVL, L,
/// D/B, G.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptor {
    attributes: u16,
    /// 20 bits.
    limit: u32,
}

impl Descriptor {
    const fn of(selector: u16, protocol: Protocol) -> Self {
        match (selector, protocol) {
            // Execute/read, accessed, 4 GiB; L in 64-bit mode, D in 32-bit mode.
            (CODE, Protocol::Linux64) => Self { attributes: 0xA09B, limit: 0xF_FFFF },
            (CODE, Protocol::Pvh) => Self { attributes: 0xC09B, limit: 0xF_FFFF },
            // Read/write, accessed, 4 GiB.
            (DATA, _) => Self { attributes: 0xC093, limit: 0xF_FFFF },
            // Busy TSS of 0x68 bytes; the same type means a 32-bit one in 32-bit mode.
            (TASK, _) => Self { attributes: 0x008B, limit: 0x67 },
            _ => Self { attributes: 0, limit: 0 },
        }
    }

    const fn bits(self) -> u64 {
        let limit = self.limit as u64;
        (self.attributes as u64) << 40 | (limit & 0xF_0000) << 32 | limit & 0xFFFF
    }

    fn segment(self, selector: u16) -> kvm_segment {
        let bit = |n: u16| u8::from(self.attributes >> n & 1 != 0);
        let granular = bit(15) == 1;
        kvm_segment {
            base: 0,
            // KVM takes the limit in bytes, whatever G says.
            limit: if granular { self.limit << 12 | 0xFFF } else { self.limit },
            selector,
            type_: (self.attributes & 0xF) as u8,
            s: bit(4),
            dpl: (self.attributes >> 5 & 3) as u8,
            present: bit(7),
            avl: bit(12),
            l: bit(13),
            db: bit(14),
            g: bit(15),
            unusable: 0,
            padding: 0,
        }
    }
}

/// The value of a segment register that holds `selector` ([`CODE`], [`DATA`] or [`TASK`]).
#[must_use]
pub fn segment(selector: u16, protocol: Protocol) -> kvm_segment {
    Descriptor::of(selector, protocol).segment(selector)
}

/// The limit that belongs in GDTR: the table's last byte.
#[must_use]
pub const fn limit() -> u16 {
    (ENTRIES * size_of::<u64>() - 1) as u16
}

/// Writes the table at [`layout::GDT`].
///
/// # Errors
/// Guest memory ends before it.
pub fn write(memory: &GuestRam, protocol: Protocol) -> Result<(), GuestMemoryError> {
    for index in 0..ENTRIES {
        let at = index * size_of::<u64>();
        let bits = Descriptor::of(at as u16, protocol).bits();
        memory.write_slice(&bits.to_le_bytes(), GuestAddress(layout::GDT + at as u64))?;
    }
    Ok(())
}
