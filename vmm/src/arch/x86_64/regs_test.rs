use super::*;

#[test]
fn linux_is_entered_in_long_mode_with_the_zero_page_in_rsi() {
    let entry = EntryPoint { protocol: Protocol::Linux64, rip: 0x10_0200, boot_data: 0x7000 };
    let regs = entry.regs();
    assert_eq!((regs.rip, regs.rsi, regs.rflags, regs.rbx), (0x10_0200, 0x7000, 2, 0));
    let sregs = entry.sregs(kvm_sregs::default());
    assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x8000_0011, 0x9000, 0x20, 0x500));
    assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.ds.selector, sregs.ss.selector), (0x10, 1, 0x18, 0x18));
}

#[test]
fn pvh_is_entered_in_protected_mode_with_the_start_info_in_ebx() {
    let entry = EntryPoint { protocol: Protocol::Pvh, rip: 0x100_0000, boot_data: 0x6000 };
    let regs = entry.regs();
    assert_eq!((regs.rip, regs.rbx, regs.rflags, regs.rsi), (0x100_0000, 0x6000, 2, 0));
    let sregs = entry.sregs(kvm_sregs::default());
    assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x11, 0, 0, 0));
    assert_eq!((sregs.cs.l, sregs.cs.db, sregs.cs.limit), (0, 1, u32::MAX));
}

#[test]
fn what_the_protocols_do_not_name_stays_as_kvm_made_it() {
    let fresh = kvm_sregs { apic_base: 0xFEE0_0900, cr8: 3, ..Default::default() };
    for protocol in [Protocol::Linux64, Protocol::Pvh] {
        let sregs = EntryPoint { protocol, rip: 0, boot_data: 0 }.sregs(fresh);
        assert_eq!((sregs.apic_base, sregs.cr8), (0xFEE0_0900, 3));
        assert_eq!((sregs.gdt.base, sregs.idt.limit), (0x500, 0));
    }
}
