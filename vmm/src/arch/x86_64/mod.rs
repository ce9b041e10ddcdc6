//! x86-64: tables and registers, as pure functions over plain data and guest memory. No KVM handle comes in
//! here.

pub mod acpi;
pub mod cpuid;
pub mod gdt;
pub mod gsi;
pub mod mp_table;
pub mod msr;
pub mod page_tables;
pub mod regs;
