//! Between KVM's structures and the saved types, field by field, both ways.

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MAX_XCRS, kvm_cpuid_entry2, kvm_debugregs, kvm_dtable, kvm_lapic_state,
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_vcpu_events,
    kvm_vcpu_events__bindgen_ty_1, kvm_vcpu_events__bindgen_ty_2, kvm_vcpu_events__bindgen_ty_3,
    kvm_vcpu_events__bindgen_ty_4, kvm_vcpu_events__bindgen_ty_5, kvm_xcr, kvm_xcrs,
};
use snapshot_format::codec::Blob;
use snapshot_format::state::{
    CpuidEntryState, DebugRegsState, DescriptorTableState, EventsState, MsrState, RegsState, SegmentState,
    SregsState, VcpuState, XcrState,
};

use super::Error;
use crate::arch::x86_64::msr;

/// Length of the LAPIC's register page in bytes (`KVM_APIC_REG_SIZE`).
const LAPIC_BYTES: usize = 0x400;

/// Length of the XSAVE area that every KVM has, in bytes.
const XSAVE_MIN_BYTES: usize = 4096;

/// More MSRs than any KVM lists.
const MSRS_MAX: usize = 4096;

/// A saved vCPU in KVM's terms, with every length checked.
pub(super) struct Parts {
    pub cpuid: CpuId,
    pub mp_state: kvm_mp_state,
    pub regs: kvm_regs,
    pub sregs: kvm_sregs,
    pub xcrs: kvm_xcrs,
    pub debugregs: kvm_debugregs,
    pub msrs: Vec<kvm_msr_entry>,
    pub lapic: kvm_lapic_state,
    pub events: kvm_vcpu_events,
}

impl Parts {
    /// Converts `state`, which may be hostile. `xsave_bytes` is how long an XSAVE area this host takes. Values that
    /// no CPU has are KVM's to refuse; lengths are checked here.
    pub(super) fn check(state: &VcpuState, xsave_bytes: usize) -> Result<Self, Error> {
        let VcpuState {
            id,
            mp_state,
            cpuid,
            regs,
            sregs,
            xsave,
            xcrs,
            debugregs,
            lapic,
            events,
            tsc: _, // Where it belongs depends on the time that has passed: `clock::TimeShift`.
            msrs,
            tsc_deadline: _, // A bare number, written last.
        } = state;
        let impossible = |field, problem: String| Error::Impossible { vcpu: *id, field, problem };
        let length = |field, found: usize, wanted: &str| {
            impossible(field, format!("has {found} entries or bytes where {wanted} are possible"))
        };

        if !(XSAVE_MIN_BYTES..=xsave_bytes.max(XSAVE_MIN_BYTES)).contains(&xsave.0.len()) {
            return Err(length("xsave", xsave.0.len(), &format!("{XSAVE_MIN_BYTES} to {xsave_bytes}")));
        }
        if cpuid.len() > KVM_MAX_CPUID_ENTRIES {
            return Err(length("cpuid", cpuid.len(), &format!("up to {KVM_MAX_CPUID_ENTRIES}")));
        }
        if msrs.len() > MSRS_MAX {
            return Err(length("msrs", msrs.len(), &format!("up to {MSRS_MAX}")));
        }
        Ok(Self {
            cpuid: to_cpuid(cpuid).ok_or_else(|| length("cpuid", cpuid.len(), "fewer"))?,
            mp_state: kvm_mp_state { mp_state: *mp_state },
            regs: to_regs(regs),
            sregs: to_sregs(sregs),
            xcrs: to_xcrs(xcrs).ok_or_else(|| length("xcrs", xcrs.len(), "up to 16"))?,
            debugregs: to_debugregs(debugregs),
            msrs: msrs
                .iter()
                .filter(|saved| !msr::is_as_reset(saved.index, saved.data))
                .map(to_msr)
                .collect(),
            lapic: to_lapic(lapic).ok_or_else(|| length("lapic", lapic.0.len(), "1024"))?,
            events: to_events(events),
        })
    }
}

pub(super) fn blob(bytes: Vec<u8>) -> Blob {
    Blob(bytes)
}

pub(super) fn cpuid(cpuid: &CpuId) -> Vec<CpuidEntryState> {
    let entry = |entry: &kvm_cpuid_entry2| {
        let kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, padding: _ } = *entry;
        CpuidEntryState { function, index, flags, eax, ebx, ecx, edx }
    };
    cpuid.as_slice().iter().map(entry).collect()
}

fn to_cpuid(saved: &[CpuidEntryState]) -> Option<CpuId> {
    let entry = |entry: &CpuidEntryState| {
        let CpuidEntryState { function, index, flags, eax, ebx, ecx, edx } = *entry;
        kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, padding: [0; 3] }
    };
    CpuId::from_entries(&saved.iter().map(entry).collect::<Vec<_>>()).ok()
}

pub(super) fn regs(regs: &kvm_regs) -> RegsState {
    let kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        rflags,
    } = *regs;
    RegsState { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags }
}

fn to_regs(saved: &RegsState) -> kvm_regs {
    let RegsState {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        rflags,
    } = *saved;
    kvm_regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags }
}

fn segment(segment: &kvm_segment) -> SegmentState {
    let kvm_segment { base, limit, selector, type_, present, dpl, db, s, l, g, avl, unusable, padding: _ } =
        *segment;
    SegmentState { base, limit, selector, type_, present, dpl, db, s, l, g, avl, unusable }
}

fn to_segment(saved: &SegmentState) -> kvm_segment {
    let SegmentState { base, limit, selector, type_, present, dpl, db, s, l, g, avl, unusable } = *saved;
    kvm_segment { base, limit, selector, type_, present, dpl, db, s, l, g, avl, unusable, padding: 0 }
}

fn table(table: &kvm_dtable) -> DescriptorTableState {
    let kvm_dtable { base, limit, padding: _ } = *table;
    DescriptorTableState { base, limit }
}

fn to_table(saved: &DescriptorTableState) -> kvm_dtable {
    let DescriptorTableState { base, limit } = *saved;
    kvm_dtable { base, limit, padding: [0; 3] }
}

pub(super) fn sregs(sregs: &kvm_sregs) -> SregsState {
    let kvm_sregs {
        cs,
        ds,
        es,
        fs,
        gs,
        ss,
        tr,
        ldt,
        gdt,
        idt,
        cr0,
        cr2,
        cr3,
        cr4,
        cr8,
        efer,
        apic_base,
        interrupt_bitmap,
    } = sregs;
    SregsState {
        cs: segment(cs),
        ds: segment(ds),
        es: segment(es),
        fs: segment(fs),
        gs: segment(gs),
        ss: segment(ss),
        tr: segment(tr),
        ldt: segment(ldt),
        gdt: table(gdt),
        idt: table(idt),
        cr0: *cr0,
        cr2: *cr2,
        cr3: *cr3,
        cr4: *cr4,
        cr8: *cr8,
        efer: *efer,
        apic_base: *apic_base,
        interrupt_bitmap: *interrupt_bitmap,
    }
}

fn to_sregs(saved: &SregsState) -> kvm_sregs {
    let SregsState {
        cs,
        ds,
        es,
        fs,
        gs,
        ss,
        tr,
        ldt,
        gdt,
        idt,
        cr0,
        cr2,
        cr3,
        cr4,
        cr8,
        efer,
        apic_base,
        interrupt_bitmap,
    } = saved;
    kvm_sregs {
        cs: to_segment(cs),
        ds: to_segment(ds),
        es: to_segment(es),
        fs: to_segment(fs),
        gs: to_segment(gs),
        ss: to_segment(ss),
        tr: to_segment(tr),
        ldt: to_segment(ldt),
        gdt: to_table(gdt),
        idt: to_table(idt),
        cr0: *cr0,
        cr2: *cr2,
        cr3: *cr3,
        cr4: *cr4,
        cr8: *cr8,
        efer: *efer,
        apic_base: *apic_base,
        interrupt_bitmap: *interrupt_bitmap,
    }
}

pub(super) fn xcrs(xcrs: &kvm_xcrs) -> Vec<XcrState> {
    let kvm_xcrs { nr_xcrs, flags: _, xcrs, padding: _ } = xcrs;
    let entry = |entry: &kvm_xcr| {
        let kvm_xcr { xcr, reserved: _, value } = *entry;
        XcrState { xcr, value }
    };
    xcrs.iter().take(*nr_xcrs as usize).map(entry).collect()
}

fn to_xcrs(saved: &[XcrState]) -> Option<kvm_xcrs> {
    let mut xcrs = [kvm_xcr { xcr: 0, reserved: 0, value: 0 }; KVM_MAX_XCRS as usize];
    if saved.len() > xcrs.len() {
        return None;
    }
    for (slot, saved) in xcrs.iter_mut().zip(saved) {
        let XcrState { xcr, value } = *saved;
        *slot = kvm_xcr { xcr, reserved: 0, value };
    }
    Some(kvm_xcrs { nr_xcrs: saved.len() as u32, flags: 0, xcrs, padding: [0; 16] })
}

pub(super) fn debugregs(regs: &kvm_debugregs) -> DebugRegsState {
    let kvm_debugregs { db, dr6, dr7, flags, reserved: _ } = *regs;
    DebugRegsState { db, dr6, dr7, flags }
}

fn to_debugregs(saved: &DebugRegsState) -> kvm_debugregs {
    let DebugRegsState { db, dr6, dr7, flags } = *saved;
    kvm_debugregs { db, dr6, dr7, flags, reserved: [0; 9] }
}

pub(super) fn lapic(lapic: &kvm_lapic_state) -> Blob {
    let kvm_lapic_state { regs } = lapic;
    Blob(regs.iter().map(|&byte| byte as u8).collect())
}

fn to_lapic(saved: &Blob) -> Option<kvm_lapic_state> {
    let bytes: &[u8; LAPIC_BYTES] = saved.0.as_slice().try_into().ok()?;
    Some(kvm_lapic_state { regs: bytes.map(|byte| byte as _) })
}

pub(super) fn events(events: &kvm_vcpu_events) -> EventsState {
    let kvm_vcpu_events {
        exception,
        interrupt,
        nmi,
        sipi_vector,
        flags,
        smi,
        triple_fault,
        reserved: _,
        exception_has_payload,
        exception_payload,
    } = *events;
    let kvm_vcpu_events__bindgen_ty_1 { injected, nr, has_error_code, pending, error_code } = exception;
    let kvm_vcpu_events__bindgen_ty_2 { injected: irq_injected, nr: irq_nr, soft, shadow } = interrupt;
    let kvm_vcpu_events__bindgen_ty_3 { injected: nmi_injected, pending: nmi_pending, masked, pad: _ } = nmi;
    let kvm_vcpu_events__bindgen_ty_4 { smm, pending: smi_pending, smm_inside_nmi, latched_init } = smi;
    let kvm_vcpu_events__bindgen_ty_5 { pending: triple_fault_pending } = triple_fault;
    EventsState {
        exception_injected: injected,
        exception_nr: nr,
        exception_has_error_code: has_error_code,
        exception_pending: pending,
        exception_error_code: error_code,
        interrupt_injected: irq_injected,
        interrupt_nr: irq_nr,
        interrupt_soft: soft,
        interrupt_shadow: shadow,
        nmi_injected,
        nmi_pending,
        nmi_masked: masked,
        sipi_vector,
        flags,
        smi_smm: smm,
        smi_pending,
        smi_smm_inside_nmi: smm_inside_nmi,
        smi_latched_init: latched_init,
        triple_fault_pending,
        exception_has_payload,
        exception_payload,
    }
}

fn to_events(saved: &EventsState) -> kvm_vcpu_events {
    let EventsState {
        exception_injected,
        exception_nr,
        exception_has_error_code,
        exception_pending,
        exception_error_code,
        interrupt_injected,
        interrupt_nr,
        interrupt_soft,
        interrupt_shadow,
        nmi_injected,
        nmi_pending,
        nmi_masked,
        sipi_vector,
        flags,
        smi_smm,
        smi_pending,
        smi_smm_inside_nmi,
        smi_latched_init,
        triple_fault_pending,
        exception_has_payload,
        exception_payload,
    } = *saved;
    kvm_vcpu_events {
        exception: kvm_vcpu_events__bindgen_ty_1 {
            injected: exception_injected,
            nr: exception_nr,
            has_error_code: exception_has_error_code,
            pending: exception_pending,
            error_code: exception_error_code,
        },
        interrupt: kvm_vcpu_events__bindgen_ty_2 {
            injected: interrupt_injected,
            nr: interrupt_nr,
            soft: interrupt_soft,
            shadow: interrupt_shadow,
        },
        nmi: kvm_vcpu_events__bindgen_ty_3 {
            injected: nmi_injected,
            pending: nmi_pending,
            masked: nmi_masked,
            pad: 0,
        },
        sipi_vector,
        flags,
        smi: kvm_vcpu_events__bindgen_ty_4 {
            smm: smi_smm,
            pending: smi_pending,
            smm_inside_nmi: smi_smm_inside_nmi,
            latched_init: smi_latched_init,
        },
        triple_fault: kvm_vcpu_events__bindgen_ty_5 { pending: triple_fault_pending },
        reserved: [0; 26],
        exception_has_payload,
        exception_payload,
    }
}

/// All but those that a vCPU has from the start.
pub(super) fn msrs(msrs: &[kvm_msr_entry]) -> Vec<MsrState> {
    let entry = |entry: &kvm_msr_entry| {
        let kvm_msr_entry { index, reserved: _, data } = *entry;
        MsrState { index, data }
    };
    msrs.iter().filter(|msr| !msr::is_as_reset(msr.index, msr.data)).map(entry).collect()
}

fn to_msr(saved: &MsrState) -> kvm_msr_entry {
    let MsrState { index, data } = *saved;
    kvm_msr_entry { index, reserved: 0, data }
}
