# What the processor itself reads and where it enters: descriptor tables, page tables, the entry from the boot loader,
# and everything that runs at CPL 0. None of it touches a vector or x87 register, so what the program keeps in them
# stays there across every interrupt.
#
# The section .cpu is linked at exactly BASE, because a gate and a TSS descriptor scatter the bits of their address and
# a linker cannot scatter a relocation:
#
#     BASE + 0x000   STUBS   64 stubs of 16 bytes, one for each vector
#     BASE + 0x400   IDT     64 gates
#     BASE + 0x800   GDT
#     BASE + 0x880   TSS     104 bytes, then the I/O permission bitmap and its closing byte
#
#     vector   what it is
#     0x03     a call from CPL 3: INT3 with the number of the service in RAX, see SERVICES
#     0x00-1f  the other exceptions
#     0x30     the UART (IOAPIC pin 4)
#     0x31     the LAPIC timer
#     0x32-39  the virtio devices (IOAPIC pins 16 to 23)
#     0x3f     the LAPIC's spurious interrupt
#
# INT3 because it is the one way to CPL 0 that every kind of KVM passes on and that needs no MSR: KVM's PVM mode raises
# #UD for any other INT n with a vector above 4.

.set BASE, 0x100000
.set KERNEL_CS, 0x08
.set USER_SS, 0x18 | 3
.set USER_CS, 0x20 | 3
.set TSS_SELECTOR, 0x28
.set USER_FLAGS, 0x3202              # IOPL 3 | IF | bit 1, which is always set

.set CR0_BITS, 0x80010033            # PG | WP | NE | ET | MP | PE
.set CR4_BITS, 0x620                 # OSXMMEXCPT | OSFXSR | PAE
.set CR4_OSXSAVE, 0x40000

.set LAPIC_EOI, 0xfee000b0

.section .cpu, "awx"

.macro exception vector
    .balign 16
    push 0
    push \vector
    jmp report_fault
.endm
.macro exception_with_code vector
    .balign 16
    push \vector
    jmp report_fault
.endm

stubs:
.irp vector, 0, 1, 2
    exception \vector
.endr
    .balign 16                  # 0x03
    jmp qword ptr [SERVICES + rax * 8]
.irp vector, 4, 5, 6, 7
    exception \vector
.endr
    exception_with_code 8
    exception 9
.irp vector, 10, 11, 12, 13, 14
    exception_with_code \vector
.endr
    exception 15
    exception 16
    exception_with_code 17
.irp vector, 18, 19, 20
    exception \vector
.endr
    exception_with_code 21
.irp vector, 22, 23, 24, 25, 26, 27, 28
    exception \vector
.endr
    exception_with_code 29
    exception_with_code 30
    exception 31
.irp vector, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47
    exception \vector
.endr
    .balign 16                  # 0x30
    mov byte ptr [UART_EVENT], 1
    jmp end_of_interrupt
    .balign 16                  # 0x31
    mov byte ptr [TIMER_EVENT], 1
    jmp end_of_interrupt
.irp slot, 0, 1, 2, 3, 4, 5, 6, 7
    .balign 16                  # 0x32 to 0x39
    mov byte ptr [VIRTIO_EVENTS + \slot], 1
    jmp end_of_interrupt
.endr
.irp vector, 58, 59, 60, 61, 62
    exception \vector
.endr
    .balign 16                  # 0x3f: a spurious interrupt takes no EOI
    iretq

.macro gates from, to, type
    .set v, \from
    .rept \to - \from
    .word v * 16                # offset 15:0 of BASE + 16 * vector
    .word KERNEL_CS
    .byte 0, \type
    .word BASE >> 16
    .quad 0
    .set v, v + 1
    .endr
.endm

.org 0x400
    gates 0x00, 0x03, 0x8e      # interrupt gates, DPL 0
    gates 0x03, 0x04, 0xee      # an interrupt gate that CPL 3 may call
    gates 0x04, 0x40, 0x8e

.org 0x800
    .quad 0
    .quad 0x00af9b000000ffff    # 0x08: code, 64-bit, DPL 0
    .quad 0x00cf93000000ffff    # 0x10: data, DPL 0
    .quad 0x00cff3000000ffff    # 0x18: data, DPL 3
    .quad 0x00affb000000ffff    # 0x20: code, 64-bit, DPL 3
    .word TSS_BYTES - 1         # 0x28: the TSS
    .word (BASE + 0x880) & 0xffff
    .byte BASE >> 16, 0x89, 0, 0
    .quad 0
gdtr:
    .word 0x38 - 1
    .quad BASE + 0x800
idtr:
    .word 0x400 - 1
    .quad BASE + 0x400
no_idt:
    .word 0
    .quad 0

.org 0x880
    .long 0
    .quad kernel_stack_top      # RSP0
    .fill 90, 1, 0
    .word 104                   # where the bitmap starts
    .fill 0x1000 / 8, 1, 0      # ports 0 to 0xfff, all permitted
    .byte 0xff
.set TSS_BYTES, 104 + 0x1000 / 8 + 1

# Page tables: the first GiB in 2 MiB pages, writable and open to CPL 3; paging.rs adds the rest at CPL 3. PML4 and PDPT
# are two pages of zeros with one entry each, which spark_entry writes: 8 KiB less in the file.
.section .page_tables, "aw"
PD:
.set page, 0
.rept 512
    .quad page + 0x87           # page size, user, writable, present
    .set page, page + 0x200000
.endr

.bss
.balign 4096
PML4:
    .skip 4096
.global PDPT
PDPT:
    .skip 4096
    .skip 1024
kernel_stack_top:
    .skip 32768
user_stack_top:
fault_seen:
    .skip 1

# The two ways into CPL 3, as IRETQ wants them. Interrupts are on in CPL 3, always. A function is entered with RSP 8
# below a multiple of 16.
#
# Ports are opened to CPL 3 twice, by IOPL and by the TSS. PVM does not keep IOPL at CPL 3, so the TSS's bitmap is needed.
# QEMU's emulation needs IOPL: its check_io() looks at the bitmap only if the type in TR's hidden part is 9, an available
# TSS. LTR leaves 11, a busy one, on hardware (SDM volume 3, 9.7; VM entry on VMX asks for 11, 27.3.1.2), and KVM's
# svm_get_segment() reports 11 whatever the VMCB holds, so a guest that KVM has restored in there would meet #GP.
.data
.balign 8
entry_frame:
    .quad spark_main, USER_CS, USER_FLAGS, user_stack_top - 8, USER_SS
fault_frame:
    .quad spark_fault, USER_CS, USER_FLAGS, user_stack_top - 8, USER_SS

.text
# The 64-bit Linux boot protocol: CPL 0, long mode, interrupts off, RSI the boot parameters.
.global spark_entry
spark_entry:
    mov rdi, rsi                # the argument of spark_main
    mov dword ptr [PML4], offset PDPT + 7
    mov dword ptr [PDPT], offset PD + 7
    mov eax, offset PML4
    mov cr3, rax
    mov eax, CR0_BITS
    mov cr0, rax
    mov eax, CR4_BITS
    mov cr4, rax
    lgdt [gdtr]
    lidt [idtr]
    mov eax, TSS_SELECTOR
    ltr ax
    mov al, 0xff                # both 8259s masked: the UART comes by the IOAPIC
    out 0x21, al
    out 0xa1, al
    mov esp, offset entry_frame
    iretq

end_of_interrupt:
    mov byte ptr [ANY_EVENT], 1
    push rax
    xor eax, eax
    movabs [LAPIC_EOI], eax
    pop rax
    iretq

# Notes the first exception and has CPL 3 report it; a second one while doing so resets at once.
report_fault:
    cmp byte ptr [fault_seen], 0
    jne 1f
    mov byte ptr [fault_seen], 1
    pop qword ptr [FAULT]
    pop rax                     # the error code
    pop qword ptr [FAULT + 8]
    mov rax, cr2
    mov [FAULT + 16], rax
    mov esp, offset fault_frame
    iretq
1:  mov al, 0xfe
    out 0x64, al
2:  hlt
    jmp 2b

# Numbered as in trap.rs.
.section .rodata
.balign 8
SERVICES:
    .quad wait, tsc, platform, drop_idt
.text

# Sleep until the byte at RDI is not zero or any interrupt has come. Interrupts are off here, and nothing comes between
# STI and HLT, so no wake-up is lost.
wait:
    cmp byte ptr [rdi], 0
    jne 1f
    sti
    hlt
1:  iretq

# The TSC in EDX:EAX, as KVM presents it to the guest: the one that kvmclock counts in.
tsc:
    rdtsc
    iretq

# No exception can be delivered any more: the caller's next one is a triple fault. It is raised at CPL 3 because PVM
# cannot emulate an INT3 at CPL 0.
drop_idt:
    lidt [no_idt]
    iretq

# CPUID and the MSRs are looked at here because at CPL 3 they are the host's or out of reach.
platform:
    push rbx
    mov eax, 1
    cpuid
    bt ecx, 26                  # XSAVE
    jnc 1f
    mov rax, cr4
    or eax, CR4_OSXSAVE
    mov cr4, rax
    mov eax, 0xd                # which parts of XCR0 there are
    xor ecx, ecx
    cpuid
    and eax, 7                  # x87, SSE, AVX
    cmp eax, 7
    jne 1f
    xor ecx, ecx
    xor edx, edx
    xsetbv
    mov byte ptr [HAS_AVX], 1
1:  mov eax, 0x40000000
    cpuid
    cmp ebx, 0x4b4d564b         # "KVMK", of "KVMKVMKVM"
    jne 2f
    mov eax, 0x40000001
    cpuid
    bt eax, 3                   # KVM_FEATURE_CLOCKSOURCE2
    jnc 2f
    xor edx, edx
    mov ecx, 0x4b564d01         # MSR_KVM_SYSTEM_TIME_NEW; bit 0 enables
    mov eax, offset SYSTEM_TIME + 1
    wrmsr
    mov ecx, 0x4b564d00         # MSR_KVM_WALL_CLOCK_NEW
    mov eax, offset WALL_CLOCK
    wrmsr
    mov byte ptr [HAS_KVMCLOCK], 1
2:  pop rbx
    iretq
