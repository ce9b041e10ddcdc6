//! One virtual CPU, as KVM's `KVM_GET_*` calls describe it. Section `vcpu:N`.

use crate::codec::prelude::*;

/// Everything KVM knows of one vCPU. The order in which it is read and written is the VMM's business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
pub struct VcpuState {
    /// The vCPU id given to `KVM_CREATE_VCPU`; also its initial APIC id.
    pub id: u32,
    /// `KVM_MP_STATE_*`.
    pub mp_state: u32,
    /// `KVM_GET_CPUID2`.
    pub cpuid: Vec<CpuidEntryState>,
    /// `KVM_GET_REGS`.
    pub regs: RegsState,
    /// `KVM_GET_SREGS`.
    pub sregs: SregsState,
    /// `KVM_GET_XSAVE2` (or `KVM_GET_XSAVE` where the kernel has no larger one): the XSAVE area in standard
    /// format, its length what `KVM_CAP_XSAVE2` reported, at least 4096 bytes.
    pub xsave: Blob,
    /// `KVM_GET_XCRS`; empty where the guest has no XSAVE.
    pub xcrs: Vec<XcrState>,
    /// `KVM_GET_DEBUGREGS`.
    pub debugregs: DebugRegsState,
    /// `KVM_GET_LAPIC`: the 1 KiB register page.
    pub lapic: Blob,
    /// `KVM_GET_VCPU_EVENTS`.
    pub events: EventsState,
    /// The time-stamp counter, which is not among `msrs`: see [`TscState`].
    pub tsc: TscState,
    /// `KVM_GET_MSRS`, in the order in which they are to be written. Neither `IA32_TSC` nor `IA32_TSC_DEADLINE` is
    /// among them.
    pub msrs: Vec<MsrState>,
    /// `IA32_TSC_DEADLINE`, 0 when no deadline is armed. Written after the LAPIC and the TSC.
    pub tsc_deadline: u64,
}

/// `struct kvm_cpuid_entry2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct CpuidEntryState {
    /// CPUID leaf.
    pub function: u32,
    /// CPUID sub-leaf, meaningful with `KVM_CPUID_FLAG_SIGNIFCANT_INDEX`.
    pub index: u32,
    /// `KVM_CPUID_FLAG_*`.
    pub flags: u32,
    /// Returned EAX.
    pub eax: u32,
    /// Returned EBX.
    pub ebx: u32,
    /// Returned ECX.
    pub ecx: u32,
    /// Returned EDX.
    pub edx: u32,
}

/// `struct kvm_regs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
#[expect(missing_docs, reason = "the architecture's own register names")]
pub struct RegsState {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// `struct kvm_segment`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
#[expect(missing_docs, reason = "the fields of a segment descriptor (Intel SDM vol. 3A, 3.4.5)")]
pub struct SegmentState {
    pub base: u64,
    pub limit: u32,
    pub selector: u16,
    pub type_: u8,
    pub present: u8,
    pub dpl: u8,
    pub db: u8,
    pub s: u8,
    pub l: u8,
    pub g: u8,
    pub avl: u8,
    pub unusable: u8,
}

/// `struct kvm_dtable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
#[expect(missing_docs, reason = "GDTR and IDTR have these two fields")]
pub struct DescriptorTableState {
    pub base: u64,
    pub limit: u16,
}

/// `struct kvm_sregs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
#[expect(missing_docs, reason = "the architecture's own register names")]
pub struct SregsState {
    pub cs: SegmentState,
    pub ds: SegmentState,
    pub es: SegmentState,
    pub fs: SegmentState,
    pub gs: SegmentState,
    pub ss: SegmentState,
    pub tr: SegmentState,
    pub ldt: SegmentState,
    pub gdt: DescriptorTableState,
    pub idt: DescriptorTableState,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cr8: u64,
    pub efer: u64,
    pub apic_base: u64,
    /// The interrupt that was being injected, one bit per vector; at most one bit is set.
    pub interrupt_bitmap: [u64; 4],
}

/// One `struct kvm_xcr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct XcrState {
    /// The extended control register's number: 0 is XCR0.
    pub xcr: u32,
    /// Its value.
    pub value: u64,
}

/// `struct kvm_debugregs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
#[expect(missing_docs, reason = "the architecture's own register names")]
pub struct DebugRegsState {
    pub db: [u64; 4],
    pub dr6: u64,
    pub dr7: u64,
    pub flags: u64,
}

/// `struct kvm_vcpu_events`: exceptions, interrupts, NMIs and SMIs on their way into the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
#[expect(missing_docs, reason = "the field names of struct kvm_vcpu_events, flattened")]
pub struct EventsState {
    pub exception_injected: u8,
    pub exception_nr: u8,
    pub exception_has_error_code: u8,
    pub exception_pending: u8,
    pub exception_error_code: u32,
    pub interrupt_injected: u8,
    pub interrupt_nr: u8,
    pub interrupt_soft: u8,
    pub interrupt_shadow: u8,
    pub nmi_injected: u8,
    pub nmi_pending: u8,
    pub nmi_masked: u8,
    pub sipi_vector: u32,
    pub flags: u32,
    pub smi_smm: u8,
    pub smi_pending: u8,
    pub smi_smm_inside_nmi: u8,
    pub smi_latched_init: u8,
    pub triple_fault_pending: u8,
    pub exception_has_payload: u8,
    pub exception_payload: u64,
}

/// One model-specific register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct MsrState {
    /// The MSR's number (ECX of RDMSR).
    pub index: u32,
    /// Its value.
    pub data: u64,
}

/// A vCPU's time-stamp counter, captured so that either of KVM's two ways of setting it can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Versionize)]
pub struct TscState {
    /// `IA32_TSC` at the capture.
    pub value: u64,
    /// `KVM_VCPU_TSC_OFFSET`: guest TSC minus host TSC, two's complement; meaningful with `has_offset`.
    pub offset: u64,
    /// Whether the kernel offered `KVM_VCPU_TSC_OFFSET`.
    pub has_offset: bool,
    /// The guest's TSC frequency in kHz: what `KVM_GET_TSC_KHZ` said when it booted, however often it was saved since.
    pub khz: u32,
}
