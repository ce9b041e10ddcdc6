//! What another architecture would replace: CPUID, MSR lists, ACPI tables, descriptor tables, page tables.

pub mod x86_64;
