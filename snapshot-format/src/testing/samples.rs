//! One value of every saved type, each field of which is another number and none of which is 0.
//!
//! A field that is lost, moved or cut short on its way through a file shows.

use crate::codec::{Blob, Words};
use crate::error::Error;
use crate::header::Architecture;
use crate::pages::pack::Entry;
use crate::pages::{ChunkSums, FileOffset, Gpa, MemoryIndex, PAGE_BYTES, PackIndex, PageCount, Region};
use crate::state::{
    AcpiPmState, ChipsetState, ClockState, CpuidEntryState, CpuidWordState, DebugRegsState,
    DescriptorTableState, EventsState, HostCheckState, HostNeedsState, I8042State, IdentityState,
    IoapicState, ManifestState, MsrState, OverlayState, PicState, PitChannelState, PitState, PvpanicState,
    RateLimitState, ReadyPortState, RegsState, RtcState, SegmentState, SerialState, SregsState,
    TokenBucketState, TscState, VcpuState, VirtioBalloonState, VirtioBlkState, VirtioMmioState,
    VirtioNetState, VirtioRngState, VirtioVsockState, VirtqueueState, VsockResetState, XcrState,
};
use crate::state_file::StateWriter;
use crate::working_set::{Run, WorkingSet};

/// Guest RAM of the sample: 8 pages from 0, 8 pages from 4 GiB.
pub const MEMORY_BYTES: u64 = 16 * PAGE_BYTES;

/// The pages of the sample's `memory` file that have data.
const DATA_PAGES: [u64; 4] = [0, 3, 8, 15];

/// The bytes of the sample's `memory` file.
pub fn memory_file() -> Vec<u8> {
    let mut bytes = vec![0; MEMORY_BYTES as usize];
    for page in DATA_PAGES {
        let at = (page * PAGE_BYTES) as usize;
        for (n, word) in bytes[at..at + PAGE_BYTES as usize].chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&(((page + 1) << 32) | n as u64).to_le_bytes());
        }
    }
    bytes
}

/// The index of [`memory_file`].
pub fn memory_index() -> MemoryIndex {
    let half = MEMORY_BYTES / 2;
    let region = |guest, offset| {
        let (guest, offset) = (Gpa::new(guest).expect("aligned"), FileOffset::new(offset).expect("aligned"));
        Region::new(guest, PageCount::from_bytes(half).expect("aligned"), offset).expect("within bounds")
    };
    let mut sums = ChunkSums::new(PageCount::from_bytes(MEMORY_BYTES).expect("aligned"));
    for (page, bytes) in memory_file().as_chunks::<{ PAGE_BYTES as usize }>().0.iter().enumerate() {
        sums.add(page as u64, bytes).expect("within the file");
    }
    MemoryIndex::new(vec![region(0, 0), region(4 << 30, half)], sums).expect("the regions fit the file")
}

/// The working set of an image of [`memory_file`]: a run that was read, one of two pages that were written.
pub fn working_set() -> WorkingSet {
    let runs = vec![Run { first: 15, pages: 1, written: false }, Run { first: 2, pages: 2, written: true }];
    WorkingSet::new(manifest().image_id, runs, memory_index().file_pages()).expect("the runs fit the file")
}

/// The index of a pack of [`memory_file`] with frames that are not what they should be: for tests of the index alone.
pub fn pack_index() -> PackIndex {
    let entries = vec![Entry::of(0, &[7; 100])];
    PackIndex::new(manifest().image_id, memory_index().file_pages(), entries).expect("memory of one frame")
}

/// A `state` file with a section of every kind, and two of the kinds that can have several.
pub fn state_file() -> Result<Vec<u8>, Error> {
    let mut writer = StateWriter::new(Architecture::X86_64);
    writer.add("manifest", &manifest())?;
    writer.add("memory", &memory_index().to_state())?;
    writer.add("clock", &clock())?;
    writer.add("chipset", &chipset())?;
    writer.add("vcpu:0", &vcpu(0))?;
    writer.add("vcpu:1", &vcpu(1))?;
    writer.add("serial:0", &serial())?;
    writer.add("i8042", &i8042())?;
    writer.add("rtc", &rtc())?;
    writer.add("acpi-pm", &acpi_pm())?;
    writer.add("ready-port", &ready_port())?;
    writer.add("pvpanic", &pvpanic())?;
    writer.add("identity", &identity())?;
    writer.add("virtio-rng", &virtio_rng())?;
    writer.add("virtio-balloon", &virtio_balloon())?;
    writer.add("virtio-blk:root", &virtio_blk())?;
    writer.add("virtio-net:eth0", &virtio_net())?;
    writer.add("virtio-vsock", &virtio_vsock())?;
    writer.add("overlay:root", &overlay())?;
    writer.finish()
}

/// A sequence of numbers that do not repeat soon and have no zero byte.
struct Sequence(u64);

/// What a [`Sequence`] can give.
trait Term {
    fn of(sequence: &mut Sequence) -> Self;
}

impl Sequence {
    fn next<T: Term>(&mut self) -> T {
        T::of(self)
    }

    fn list<T: Term>(&mut self, len: usize) -> Vec<T> {
        (0..len).map(|_| self.next()).collect()
    }
}

macro_rules! terms {
    ($($int:ty),*) => { $(impl Term for $int {
        fn of(sequence: &mut Sequence) -> Self {
            sequence.0 += 1;
            // Distinct bytes, each with its top bit clear and one of its others set.
            let bytes: [u8; size_of::<$int>()] = std::array::from_fn(|n| ((sequence.0 + 37 * n as u64) % 127 + 1) as u8);
            <$int>::from_le_bytes(bytes)
        }
    })* };
}
terms!(u8, u16, u32, u64, i64);

impl Term for bool {
    fn of(_: &mut Sequence) -> Self {
        true
    }
}

impl<T: Term, const N: usize> Term for [T; N] {
    fn of(sequence: &mut Sequence) -> Self {
        std::array::from_fn(|_| sequence.next())
    }
}

/// Section `manifest`.
pub fn manifest() -> ManifestState {
    let s = &mut Sequence(0);
    ManifestState {
        image_id: s.next(),
        parent_id: s.next(),
        generation: s.next(),
        created_ns: s.next(),
        written_by: "rekindle 0.1.0 (golden)".into(),
        guest: "spark".into(),
        cmdline: "console=ttyS0 seed=7".into(),
        vcpus: 2,
        memory_bytes: MEMORY_BYTES,
        host: s.next(),
    }
}

/// Section `clock`.
pub fn clock() -> ClockState {
    Sequence(20).next()
}

/// Section `chipset`.
pub fn chipset() -> ChipsetState {
    Sequence(30).next()
}

/// Section `vcpu:ID`.
pub fn vcpu(id: u32) -> VcpuState {
    let s = &mut Sequence(60 + u64::from(id));
    VcpuState {
        id,
        mp_state: s.next(),
        cpuid: s.list(3),
        regs: s.next(),
        sregs: s.next(),
        xsave: Blob(s.list(96)),
        xcrs: s.list(2),
        debugregs: s.next(),
        lapic: Blob(s.list(64)),
        events: s.next(),
        tsc: s.next(),
        msrs: s.list(4),
        tsc_deadline: s.next(),
    }
}

/// Section `serial:0`.
pub fn serial() -> SerialState {
    let s = &mut Sequence(80);
    SerialState {
        baud_divisor_low: s.next(),
        baud_divisor_high: s.next(),
        interrupt_enable: s.next(),
        interrupt_identification: s.next(),
        line_control: s.next(),
        line_status: s.next(),
        modem_control: s.next(),
        modem_status: s.next(),
        scratch: s.next(),
        in_buffer: s.list(5),
    }
}

/// Section `i8042`.
pub fn i8042() -> I8042State {
    let s = &mut Sequence(90);
    I8042State {
        status: s.next(),
        control: s.next(),
        output_port: s.next(),
        pending_command: s.next(),
        pending_keyboard_command: s.next(),
        output: s.list(4),
        answer_first: true,
        keyboard_scanning: true,
        keyboard_scan_set: 2,
    }
}

/// Section `rtc`.
pub fn rtc() -> RtcState {
    let s = &mut Sequence(100);
    RtcState { index: s.next(), cmos: Blob(s.list(128)), offset_seconds: s.next() }
}

/// Section `acpi-pm`.
pub fn acpi_pm() -> AcpiPmState {
    Sequence(105).next()
}

/// Section `ready-port`.
pub fn ready_port() -> ReadyPortState {
    Sequence(110).next()
}

/// Section `pvpanic`.
pub fn pvpanic() -> PvpanicState {
    Sequence(115).next()
}

/// Section `identity`.
pub fn identity() -> IdentityState {
    Sequence(117).next()
}

/// Section `virtio-rng`.
pub fn virtio_rng() -> VirtioRngState {
    Sequence(120).next()
}

/// Section `virtio-balloon`.
pub fn virtio_balloon() -> VirtioBalloonState {
    Sequence(123).next()
}

/// Section `virtio-blk:root`.
pub fn virtio_blk() -> VirtioBlkState {
    let s = &mut Sequence(125);
    VirtioBlkState {
        transport: s.next(),
        path: Blob(b"/srv/disks/root.img".to_vec()),
        read_only: s.next(),
        overlay: s.next(),
        len: s.next(),
        modified_ns: s.next(),
        limit: s.next(),
    }
}

/// Section `virtio-vsock`.
pub fn virtio_vsock() -> VirtioVsockState {
    let s = &mut Sequence(135);
    VirtioVsockState {
        transport: s.next(),
        cid: s.next(),
        path: Blob(b"/run/guest.vsock".to_vec()),
        resets: s.list(2),
    }
}

/// Section `virtio-net:eth0`.
pub fn virtio_net() -> VirtioNetState {
    let s = &mut Sequence(17);
    VirtioNetState { transport: s.next(), tap: "tap-web0".into(), rx_limit: s.next(), tx_limit: s.next() }
}

impl Term for VirtioMmioState {
    fn of(s: &mut Sequence) -> Self {
        Self {
            slot: s.next(),
            device_features: s.next(),
            driver_features: s.next(),
            device_features_sel: s.next(),
            driver_features_sel: s.next(),
            queue_sel: s.next(),
            status: s.next(),
            interrupt_status: s.next(),
            config_generation: s.next(),
            config: s.list(24),
            queues: s.list(2),
        }
    }
}

impl Term for HostNeedsState {
    fn of(s: &mut Sequence) -> Self {
        Self {
            cpu_vendor: "AuthenticAMD".into(),
            kvm_kind: "svm".into(),
            cpuid: s.list(3),
            kvm_caps: s.list(3),
            tsc_khz: s.next(),
            xsave_bytes: s.next(),
        }
    }
}

/// `filled!(Type: field, field…)`: every field is the next term. A field that is left out does not compile.
macro_rules! filled {
    ($type:ident: $($field:ident),*) => {
        impl Term for $type {
            fn of(s: &mut Sequence) -> Self {
                Self { $($field: s.next()),* }
            }
        }
    };
}

filled!(PicState: last_irr, irr, imr, isr, priority_add, irq_base, read_reg_select, poll, special_mask,
    init_state, auto_eoi, rotate_on_auto_eoi, special_fully_nested_mode, init4, elcr, elcr_mask);
filled!(IoapicState: base_address, ioregsel, id, irr, redirtbl);
filled!(PitState: channels, flags);
filled!(PitChannelState: count, latched_count, count_latched, status_latched, status, read_state,
    write_state, write_latch, rw_mode, mode, bcd, gate, count_load_time);
filled!(CpuidEntryState: function, index, flags, eax, ebx, ecx, edx);
filled!(RegsState: rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip,
    rflags);
filled!(SegmentState: base, limit, selector, type_, present, dpl, db, s, l, g, avl, unusable);
filled!(DescriptorTableState: base, limit);
filled!(SregsState: cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, cr8, efer, apic_base,
    interrupt_bitmap);
filled!(XcrState: xcr, value);
filled!(DebugRegsState: db, dr6, dr7, flags);
filled!(EventsState: exception_injected, exception_nr, exception_has_error_code, exception_pending,
    exception_error_code, interrupt_injected, interrupt_nr, interrupt_soft, interrupt_shadow, nmi_injected,
    nmi_pending, nmi_masked, sipi_vector, flags, smi_smm, smi_pending, smi_smm_inside_nmi, smi_latched_init,
    triple_fault_pending, exception_has_payload, exception_payload);
filled!(MsrState: index, data);
filled!(TscState: value, offset, has_offset, khz);
filled!(CpuidWordState: function, index, register, bits);
filled!(ClockState: kvmclock_ns, flags, realtime_ns, host_tsc, vmm_realtime_ns);
filled!(ChipsetState: pic_master, pic_slave, ioapic, pit);
filled!(AcpiPmState: pm1_status, pm1_enable, pm1_control);
filled!(ReadyPortState: last);
filled!(PvpanicState: events);
filled!(IdentityState: generation_id, vmclock, gsi);
filled!(VirtqueueState: max_size, size, ready, desc_table, avail_ring, used_ring, next_avail, next_used);
filled!(VirtioRngState: transport);
filled!(VirtioBalloonState: transport);
filled!(TokenBucketState: size, refill_ms, burst, tokens, part, burst_left);
filled!(RateLimitState: bandwidth, operations);
filled!(VsockResetState: cid, kind, host_port, guest_port);

/// Section `host-check`, which is not in the sample.
pub fn host_check() -> HostCheckState {
    HostCheckState { digest: *b"needs and a host" }
}

/// Section `overlay:root`.
pub fn overlay() -> OverlayState {
    OverlayState { len: 0x2000, runs: Words(vec![1, 2, 8, 4]), data_pages: 2, sum: 0x0102_0304_0506_0708 }
}
