use std::io::{Seek, SeekFrom, Write};

use linux_loader::loader::bootparam::boot_params;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::{Bytes, GuestAddress};

use super::images_test::{APPENDED, BzImage, CODE, Elf, Segment};
use super::source::Source;
use super::*;
use crate::memory::ram_at;

const MIB: u64 = 1 << 20;
const CONFIG: Config<'_> = Config { cmdline: "console=ttyS0", cpus: 2, devices: &[] };

static UNTOUCHED: [u8; 0x11_0000] = [0; 0x11_0000];

/// A guest with this many MiB of RAM.
struct Guest {
    ram: RamLayout,
    memory: GuestRam,
}

impl Guest {
    fn of_mib(mib: u64) -> Self {
        let ram = RamLayout::new(mib * MIB).unwrap();
        let regions: Vec<_> =
            ram.regions().iter().map(|region| (GuestAddress(region.base), region.len as usize)).collect();
        Self { ram, memory: ram_at(&regions) }
    }

    fn boot(&self, kernel: &[u8], initrd: Option<&[u8]>) -> Result<EntryPoint, Error> {
        self.boot_with(kernel, initrd, &CONFIG)
    }

    fn boot_with(
        &self,
        kernel: &[u8],
        initrd: Option<&[u8]>,
        config: &Config<'_>,
    ) -> Result<EntryPoint, Error> {
        let mut initrd = initrd.map(Initrd::from_bytes);
        load(&mut Kernel::from_bytes(kernel)?, initrd.as_mut(), config, &self.memory, self.ram)
    }

    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn params(&self) -> boot_params {
        self.memory.read_obj(GuestAddress(layout::ZERO_PAGE)).unwrap()
    }

    /// Nothing has been written where boot data and the first of the kernel go.
    fn is_untouched(&self) -> bool {
        self.bytes(0, UNTOUCHED.len()) == UNTOUCHED
    }
}

/// Why this kernel is refused by a guest of 64 MiB, whose memory must not have been touched.
fn refusal(kernel: &[u8]) -> Error {
    let guest = Guest::of_mib(64);
    let error = guest.boot(kernel, None).unwrap_err();
    assert!(guest.is_untouched(), "{error}");
    error
}

#[track_caller]
fn assert_refused(kernel: &[u8], message: &str) {
    assert_eq!(refusal(kernel).to_string(), message);
}

#[test]
fn parameters_come_before_what_is_the_first_process_s() {
    let with = |cmdline| with_parameters(cmdline, ["a=1".to_owned(), "a=2".to_owned()]);
    assert_eq!(with("quiet"), "quiet a=1 a=2");
    assert_eq!(with("quiet -- single"), "quiet a=1 a=2 -- single");
    assert_eq!(with("root=a--b"), "root=a--b a=1 a=2");
    assert_eq!(with_parameters("quiet  x", []), "quiet  x");
}

#[test]
fn a_bzimage_is_entered_by_the_64_bit_protocol() {
    let guest = Guest::of_mib(64);
    let entry = guest.boot(&BzImage { appended: 100, ..Default::default() }.bytes(), None).unwrap();
    assert_eq!(entry, EntryPoint { protocol: Protocol::Linux64, rip: 0x10_0200, boot_data: 0x7000 });
    // The code is there, and what follows it in the file is not.
    assert_eq!(guest.bytes(0x10_0000, 0x1000), [CODE; 0x1000]);
    assert_eq!(guest.bytes(0x10_1000, 100), [0; 100]);
    assert_ne!(CODE, APPENDED);
    assert_eq!(guest.bytes(layout::CMDLINE, 14), b"console=ttyS0\0");
}

#[test]
fn boot_params_have_the_kernels_header_and_what_a_boot_loader_adds() {
    let guest = Guest::of_mib(64);
    guest.boot(&BzImage::default().bytes(), None).unwrap();
    let params = guest.params();
    let header = params.hdr;
    assert_eq!(
        ({ header.header }, { header.version }, { header.init_size }),
        (0x5372_6448, 0x20F, 0x10_0000)
    );
    assert_eq!((header.type_of_loader, { header.cmd_line_ptr }), (0xFF, 0x2_0000));
    assert_eq!(({ header.ramdisk_image }, { header.ramdisk_size }), (0, 0));
    // An address in the file is not believed, and code is not taken for fields.
    assert_eq!(({ header.setup_data }, { header.kernel_info_offset }), (0, 0));
    assert_eq!({ params.acpi_rsdp_addr }, 0xE_0000);
    assert_eq!(guest.bytes(0xE_0000, 8), b"RSD PTR ");
    assert_eq!(guest.bytes(layout::ZERO_PAGE, 0x40), [0; 0x40], "screen_info");
}

#[test]
fn the_memory_map_has_all_ram_and_no_hole() {
    let guest = Guest::of_mib(3 * 1024 + 512);
    guest.boot(&BzImage::default().bytes(), None).unwrap();
    let params = guest.params();
    let table = params.e820_table;
    let map: Vec<_> = table[..usize::from(params.e820_entries)]
        .iter()
        .map(|entry| ({ entry.addr }, { entry.size }, { entry.r#type }))
        .collect();
    assert_eq!(
        map,
        [
            (0, 0xA_0000, 1),
            (0xE_0000, 0x2_0000, 2),
            (0x10_0000, 0xBFF0_0000, 1),
            (0xFFFB_C000, 0x4_4000, 2),
            (0x1_0000_0000, 0x2000_0000, 1),
        ]
    );
}

#[test]
fn an_initrd_lies_as_high_as_kernel_and_memory_allow() {
    let initrd = [7; 5000];
    for (mib, limit, expected) in [
        (64, 0x7FFF_FFFF, 64 * MIB - 8192),
        (64, 0x2FF_FFFF, 48 * MIB - 8192),
        (3 * 1024 + 512, 0x7FFF_FFFF, 2048 * MIB - 8192),
    ] {
        let guest = Guest::of_mib(mib);
        let kernel = BzImage { initrd_addr_max: limit, ..Default::default() }.bytes();
        guest.boot(&kernel, Some(&initrd)).unwrap();
        let header = guest.params().hdr;
        assert_eq!((u64::from(header.ramdisk_image), { header.ramdisk_size }), (expected, 5000));
        assert_eq!(guest.bytes(expected, 5001)[..], [&initrd[..], &[0]].concat());
    }
}

#[test]
fn an_initrd_reaches_down_to_the_kernel_and_not_further() {
    let kernel = BzImage { pref_address: 16 * MIB, init_size: MIB as u32, ..Default::default() }.bytes();
    let guest = Guest::of_mib(32);
    guest.boot(&kernel, Some(&vec![7; 15 * MIB as usize])).unwrap();
    assert_eq!(u64::from(guest.params().hdr.ramdisk_image), 17 * MIB);
    let (len, room) = (15 * MIB + 1, 15 * MIB);
    let guest = Guest::of_mib(32);
    let refused = guest.boot(&kernel, Some(&vec![7; len as usize])).unwrap_err();
    assert!(
        matches!(refused, Error::InitrdTooLarge { len: l, room: r } if (l, r) == (len, room)),
        "{refused}"
    );
    assert!(guest.is_untouched());
    assert!(matches!(guest.boot(&kernel, Some(&[])), Err(Error::InitrdEmpty)));
}

#[test]
fn a_kernel_and_an_initrd_are_read_from_files_alike() {
    let file = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(3)).unwrap();
        file
    };
    let kernel = BzImage { pref_address: 0, ..Default::default() }.bytes();
    let initrd = [9; 10_000];
    let (a, b) = (Guest::of_mib(16), Guest::of_mib(16));
    a.boot(&kernel, Some(&initrd)).unwrap();
    let mut from_file = Initrd::from_file(file(&initrd)).unwrap();
    let mut kernel = Kernel::from_file(file(&kernel)).unwrap();
    load(&mut kernel, Some(&mut from_file), &CONFIG, &b.memory, b.ram).unwrap();
    let len = 16 * MIB as usize;
    assert!(a.bytes(0, len) == b.bytes(0, len));
}

/// 9p returns at most its `msize` a call, and a signal interrupts any call.
#[test]
fn short_and_interrupted_reads_load_the_same_bytes() {
    let bzimage = BzImage { pref_address: 0, code_len: 0x3000, appended: 7, ..Default::default() }.bytes();
    let elf = Elf::new(vec![Segment::load(0x10_0000, 5000), Segment::load(0x20_0000, 3000)]).bytes();
    let initrd = [9; 10_000];
    let len = 16 * MIB as usize;
    for kernel in [bzimage, elf] {
        let whole = Guest::of_mib(16);
        whole.boot(&kernel, Some(&initrd)).unwrap();
        for most in [100, 512, 4096] {
            let pieces = Guest::of_mib(16);
            let mut from = Kernel::identify(Source::from_short_reads(&kernel, most)).unwrap();
            let mut initrd = Initrd::from_source(Source::from_short_reads(&initrd, most));
            load(&mut from, Some(&mut initrd), &CONFIG, &pieces.memory, pieces.ram).unwrap();
            assert!(whole.bytes(0, len) == pieces.bytes(0, len), "{most} bytes a read");
        }
    }
}

#[test]
fn what_is_not_a_regular_file_is_refused() {
    let directory = || std::fs::File::open("/").unwrap();
    assert!(matches!(Kernel::from_file(directory()), Err(Error::NotAFile { what: "the kernel" })));
    assert!(matches!(Initrd::from_file(directory()), Err(Error::NotAFile { what: "the initrd" })));
    let device = std::fs::File::open("/dev/zero").unwrap();
    assert!(matches!(Kernel::from_file(device), Err(Error::NotAFile { .. })));
}

#[test]
fn an_enormous_file_is_refused_unread() {
    let file = tempfile::tempfile().unwrap();
    file.set_len((1 << 30) + 1).unwrap();
    assert!(matches!(Kernel::from_file(file), Err(Error::KernelTooLarge { len: 0x4000_0001, .. })));
}

#[test]
fn an_elf_file_is_entered_by_the_64_bit_protocol() {
    let guest = Guest::of_mib(64);
    let mut elf = Elf::new(vec![Segment::load(0x10_0000, 300), Segment::load(0x20_0000, 5)]);
    elf.segments[1].memory_len = 0x1000;
    elf.entry = 0x10_0010;
    let entry = guest.boot(&elf.bytes(), Some(&[7; 10])).unwrap();
    assert_eq!(entry, EntryPoint { protocol: Protocol::Linux64, rip: 0x10_0010, boot_data: 0x7000 });
    assert_eq!(guest.bytes(0x10_0000, 301), [&[CODE; 300][..], &[0]].concat());
    assert_eq!(guest.bytes(0x20_0000, 6), [&[CODE; 5][..], &[0]].concat());
    let header = guest.params().hdr;
    assert_eq!(({ header.header }, { header.boot_flag }, header.type_of_loader), (0x5372_6448, 0xAA55, 0xFF));
    assert_eq!({ header.ramdisk_image }, (64 * MIB - 4096) as u32);
    // The tables that the protocol wants are there: a level-4 entry, and the code descriptor.
    assert_ne!(guest.bytes(layout::PAGE_TABLES, 8), [0; 8]);
    assert_ne!(guest.bytes(layout::GDT + 0x10, 8), [0; 8]);
}

#[test]
fn an_elf_file_with_the_note_is_entered_by_pvh() {
    let guest = Guest::of_mib(3 * 1024 + 512);
    // Linux's own entry is a virtual address there.
    let mut elf = Elf::new(vec![Segment::load(0x100_0000, 300), Segment::pvh_note(0x100_0020)]);
    elf.entry = 0xFFFF_FFFF_8100_0000;
    let entry = guest.boot(&elf.bytes(), Some(&[7; 10])).unwrap();
    assert_eq!(entry, EntryPoint { protocol: Protocol::Pvh, rip: 0x100_0020, boot_data: 0x6000 });

    let info: hvm_start_info = guest.memory.read_obj(GuestAddress(entry.boot_data)).unwrap();
    assert_eq!((info.magic, info.version, info.flags, info.nr_modules), (0x336E_C578, 1, 0, 1));
    assert_eq!((info.cmdline_paddr, info.rsdp_paddr), (0x2_0000, 0xE_0000));
    let initrd: hvm_modlist_entry = guest.memory.read_obj(GuestAddress(info.modlist_paddr)).unwrap();
    assert_eq!((initrd.paddr, initrd.size), (3 * 1024 * MIB - 4096, 10));
    assert_eq!(guest.bytes(initrd.paddr, 11), [&[7; 10][..], &[0]].concat());
    let map: Vec<_> = (0..u64::from(info.memmap_entries))
        .map(|i| guest.memory.read_obj(GuestAddress(info.memmap_paddr + 24 * i)).unwrap())
        .map(|entry: hvm_memmap_table_entry| (entry.addr, entry.size, entry.type_))
        .collect();
    assert_eq!((map.len(), map[0]), (5, (0, 0xA_0000, 1)));
    assert_eq!(map[4], (0x1_0000_0000, 512 * MIB, 1));
}

#[test]
fn pvh_without_an_initrd_has_no_module() {
    let guest = Guest::of_mib(64);
    let elf = Elf::new(vec![Segment::load(0x10_0000, 300), Segment::pvh_note(0x10_0000)]);
    let entry = guest.boot(&elf.bytes(), None).unwrap();
    let info: hvm_start_info = guest.memory.read_obj(GuestAddress(entry.boot_data)).unwrap();
    assert_eq!((info.nr_modules, info.modlist_paddr), (0, 0));
}

#[test]
fn what_is_not_a_kernel_is_refused() {
    let unknown = "not a kernel: neither a bzImage nor an ELF file";
    for file in [&b""[..], b"#!/bin/sh\n", b"MZ", b"\x7FEL", &[0; 4096]] {
        assert_refused(file, unknown);
    }
    let mut image = [0; 4096];
    image[..2].copy_from_slice(b"MZ");
    image[0x38..0x3C].copy_from_slice(b"ARM\x64");
    assert_refused(&image, "the kernel is made for arm64, this machine is an x86-64");
    image[0x38..0x3C].copy_from_slice(b"RSC\x05");
    assert_refused(&image, "the kernel is made for riscv, this machine is an x86-64");
    assert!(matches!(refusal(b"\x1F\x8B\x08\0"), Error::Compressed { format: "gzip" }));
    assert!(matches!(refusal(b"\x28\xB5\x2F\xFD"), Error::Compressed { format: "zstd" }));
}

#[test]
fn a_bzimage_truncated_at_any_length_is_refused() {
    let whole = BzImage::default().bytes();
    for len in (0..0x26C).chain((0x26C..whole.len()).step_by(97)).chain([whole.len() - 1]) {
        match refusal(&whole[..len]) {
            Error::NotAKernel if len < 0x206 => {}
            Error::Truncated { expected, found } if len >= 0x206 => {
                assert!(found == len as u64 && expected > found && expected <= whole.len() as u64);
            }
            other => panic!("{len:#x}: {other}"),
        }
    }
}

#[test]
fn a_bzimage_that_cannot_be_entered_is_refused() {
    let usual = BzImage::default();
    let old = BzImage { version: 0x020B, ..usual };
    assert_refused(&old.bytes(), "the bzImage speaks boot protocol 2.11, at least 2.12 is needed");
    assert!(matches!(refusal(&BzImage { xloadflags: 0, ..usual }.bytes()), Error::No64BitEntry));
    assert!(matches!(refusal(&BzImage { loadflags: 0, ..usual }.bytes()), Error::No64BitEntry));
    for (syssize, field) in [(0, "syssize"), (0x20, "syssize")] {
        let refused = refusal(&BzImage { syssize: Some(syssize), ..usual }.bytes());
        assert!(matches!(refused, Error::Header { field: said, .. } if said == field), "{refused}");
    }
    let huge = refusal(&BzImage { syssize: Some(u32::MAX), ..usual }.bytes());
    assert!(matches!(huge, Error::Truncated { expected: 0x10_0000_07F0, .. }), "{huge}");
    let odd = refusal(&BzImage { kernel_alignment: 3, ..usual }.bytes());
    assert!(matches!(odd, Error::Header { field: "kernel_alignment", value: 3 }));
    let wrapping = refusal(&BzImage { pref_address: u64::MAX, ..usual }.bytes());
    assert!(matches!(wrapping, Error::Header { field: "pref_address", .. }));
}

#[test]
fn memory_too_small_to_unpack_in_is_refused() {
    let kernel = BzImage { pref_address: 0x100_0000, init_size: 0x300_0001, ..Default::default() };
    assert_refused(
        &kernel.bytes(),
        "memory is too small for the kernel: it needs 67108865 bytes, there are 67108864 below 3 GiB",
    );
    assert!(Guest::of_mib(65).boot(&kernel.bytes(), None).is_ok());
    // One that is not relocatable goes by its address alone, one that is goes by its alignment as well.
    let kernel = BzImage { pref_address: 0, kernel_alignment: 0x400_0000, ..kernel };
    assert!(matches!(refusal(&kernel.bytes()), Error::MemoryTooSmall { needed: 0x700_0001, .. }));
    assert!(Guest::of_mib(64).boot(&BzImage { relocatable: 0, ..kernel }.bytes(), None).is_ok());
    // More code than its header says it needs memory for.
    let long = BzImage { relocatable: 0, pref_address: 0, init_size: 0, code_len: 16 << 20, ..kernel };
    assert!(matches!(Guest::of_mib(16).boot(&long.bytes(), None), Err(Error::MemoryTooSmall { .. })));
}

#[test]
fn a_command_line_that_the_kernel_would_cut_is_refused() {
    let boot = |kernel: &[u8], cmdline: &str| {
        let guest = Guest::of_mib(64);
        let result = guest.boot_with(kernel, None, &Config { cmdline, ..CONFIG });
        assert!(result.is_ok() || guest.is_untouched());
        result.map(|_| ())
    };
    let elf = Elf::new(vec![Segment::load(0x10_0000, 300)]).bytes();
    let bzimage = BzImage { cmdline_size: 4096, ..Default::default() }.bytes();
    for (kernel, max) in [(&elf, 2047), (&bzimage, 4096)] {
        boot(kernel, &"x".repeat(max)).unwrap();
        let refused = boot(kernel, &"x".repeat(max + 1)).unwrap_err();
        assert!(matches!(refused, Error::CmdlineTooLong { len, .. } if len == max as u64 + 1));
    }
    // A kernel that promises to read more than there is room for.
    let greedy = BzImage { cmdline_size: u32::MAX, ..Default::default() }.bytes();
    boot(&greedy, &"x".repeat(0xFFFF)).unwrap();
    assert!(matches!(boot(&greedy, &"x".repeat(0x1_0000)), Err(Error::CmdlineTooLong { max: 0xFFFF, .. })));
    assert!(matches!(boot(&elf, "a\0b"), Err(Error::CmdlineNul { at: 1 })));
    boot(&elf, "").unwrap();
}

#[test]
fn a_number_of_cpus_that_cannot_be_is_refused() {
    for cpus in [0, 33] {
        let guest = Guest::of_mib(64);
        let refused = guest.boot_with(&BzImage::default().bytes(), None, &Config { cpus, ..CONFIG });
        assert!(matches!(refused, Err(Error::Acpi(acpi::Error::Cpus { .. }))));
        assert!(guest.is_untouched());
    }
}

#[test]
fn an_elf_file_for_another_machine_is_refused() {
    let usual = Elf::new(vec![Segment::load(0x10_0000, 300)]);
    let made_for = |elf: Elf| match refusal(&elf.bytes()) {
        Error::WrongArchitecture { found } => found,
        other => panic!("{other}"),
    };
    assert_eq!(made_for(Elf { machine: 183, ..usual.clone() }), "arm64");
    assert_eq!(made_for(Elf { machine: 3, class: 1, ..usual.clone() }), "i386");
    assert_eq!(made_for(Elf { class: 1, ..usual.clone() }), "32-bit mode");
    assert_eq!(made_for(Elf { order: 2, ..usual.clone() }), "a big-endian machine");
    assert_eq!(made_for(Elf { machine: 0xFFFF, ..usual.clone() }), "ELF machine 65535");
    for kind in [0, 1, 3, 4] {
        assert!(
            matches!(refusal(&Elf { kind, ..usual.clone() }.bytes()), Error::ElfKind { kind: k } if k == kind)
        );
    }
}

#[test]
fn an_elf_file_truncated_at_any_length_is_refused() {
    let whole = Elf::new(vec![Segment::load(0x10_0000, 300), Segment::pvh_note(0x10_0000)]).bytes();
    for len in 4..whole.len() {
        assert!(matches!(refusal(&whole[..len]), Error::Truncated { .. }), "{len}");
    }
}

#[test]
fn elf_headers_that_contradict_themselves_are_refused() {
    let usual = Elf::new(vec![Segment::load(0x10_0000, 300)]);
    let field = |elf: Elf| match refusal(&elf.bytes()) {
        Error::Header { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(Elf { header_len: 55, ..usual.clone() }), "e_phentsize");
    assert_eq!(field(Elf { header_count: Some(65), ..usual.clone() }), "e_phnum");
    assert_eq!(field(Elf { headers_at: Some(63), ..usual.clone() }), "e_phoff");
    assert_eq!(field(Elf { headers_at: Some(u64::MAX), ..usual.clone() }), "e_phoff");
    assert!(matches!(
        refusal(&Elf { header_count: Some(60), ..usual.clone() }.bytes()),
        Error::Truncated { .. }
    ));
    assert!(matches!(refusal(&Elf::new(vec![]).bytes()), Error::NoSegment));

    let segment = |change: fn(&mut Segment)| {
        let mut elf = usual.clone();
        change(&mut elf.segments[0]);
        elf
    };
    assert_eq!(field(segment(|s| s.offset = Some(u64::MAX))), "p_offset");
    assert_eq!(field(segment(|s| s.memory_len = 299)), "p_memsz");
    assert!(matches!(refusal(&segment(|s| s.offset = Some(1 << 62)).bytes()), Error::Truncated { .. }));
    assert!(matches!(refusal(&segment(|s| s.memory_len = 0).bytes()), Error::Header { .. }));
    assert!(matches!(refusal(&segment(|s| s.kind = 6).bytes()), Error::NoSegment));
}

#[test]
fn segments_go_only_where_the_kernel_may_be() {
    let at = |paddr: u64, memory_len: u64| {
        let mut segment = Segment::load(paddr, 4);
        segment.memory_len = memory_len;
        Elf::new(vec![segment]).bytes()
    };
    for paddr in [0, 0x500, 0x7000, 0xE_0000, 0xF_FFFF] {
        assert!(matches!(refusal(&at(paddr, 4)), Error::SegmentOverBootData { .. }), "{paddr:#x}");
    }
    for (paddr, len) in [(0xC000_0000, 4), (0xBFFF_FFFF, 4), (1 << 32, 4), (u64::MAX, 4), (1 << 20, u64::MAX)]
    {
        assert!(matches!(refusal(&at(paddr, len)), Error::SegmentOutsideRam { .. }), "{paddr:#x}");
    }
    assert!(matches!(refusal(&at(64 * MIB - 2, 4)), Error::MemoryTooSmall { .. }));
    assert!(matches!(refusal(&at(MIB, 64 * MIB)), Error::MemoryTooSmall { .. }));
    assert!(Guest::of_mib(64).boot(&at(64 * MIB - 4, 4), None).is_ok());

    let overlapping = Elf::new(vec![Segment::load(0x20_0000, 300), Segment::load(0x1F_FFFF, 2)]);
    assert_refused(&overlapping.bytes(), "two segments of the kernel overlap at 0x200000");
}

#[test]
fn an_entry_point_outside_the_kernel_is_refused() {
    let mut elf = Elf::new(vec![Segment::load(0x10_0000, 300)]);
    for entry in [0, 0xF_FFFF, 0x10_0000 + 300, u64::MAX] {
        elf.entry = entry;
        let refused = Guest::of_mib(64).boot(&elf.bytes(), None);
        assert!(matches!(refused, Err(Error::EntryOutside { entry: said }) if said == entry));
    }
    let elf = Elf::new(vec![Segment::load(0x10_0000, 300), Segment::pvh_note(0x7000)]);
    let refused = Guest::of_mib(64).boot(&elf.bytes(), None);
    assert!(matches!(refused, Err(Error::EntryOutside { entry: 0x7000 })));
}

#[test]
fn a_hostile_note_ends_in_an_error() {
    let load = Segment::load(0x10_0000, 300);
    let note = |bytes: Vec<u8>| Segment { bytes, ..Segment::pvh_note(0) };
    let words = |words: [u32; 3]| words.map(u32::to_le_bytes).concat();
    let boot = |note: Segment| Guest::of_mib(64).boot(&Elf::new(vec![load.clone(), note]).bytes(), None);
    // Too long to be searched.
    assert!(matches!(boot(note(vec![0; (64 << 10) + 4])), Err(Error::Header { field: "p_filesz", .. })));
    // Lengths that lead out of the file, or to nowhere.
    assert!(matches!(boot(note(words([u32::MAX, u32::MAX, 18]))), Err(Error::Load(_))));
    assert!(boot(note(words([0x1000, 0x1000, 18]))).is_ok());
    // The right note, too short for an address, and one that ends before it.
    assert!(matches!(boot(note([words([4, 2, 18]), b"Xen\0\0\0".into()].concat())), Err(Error::Load(_))));
    assert!(matches!(boot(note([words([4, 4, 18]), b"Xen\0".into()].concat())), Err(Error::Load(_))));
}
