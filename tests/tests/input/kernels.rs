//! Kernels, initrds and command lines that cannot be booted. The kernels are made here, a header each.

use std::path::Path;

use rekindle_tests::{Case, Launch, Need, Scratch, cases, rekindle};
use vmm::config::{KernelConfig, MemorySize, VmConfig};
use vmm::machine::{Connections, Guest};

use crate::table::{Row, check};
use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases!(
        "input",
        KVM,
        [
            a_kernel_that_does_not_fit_is_refused,
            what_the_kernel_is_given_is_checked,
            a_nul_in_the_command_line_is_refused,
            a_kernel_that_runs_into_nothing_is_told_where
        ]
    );
    // Refused before /dev/kvm is opened.
    cases.extend(cases!("input", &[], [a_kernel_that_is_none_is_refused]));
    cases.extend(cases!("input", &[Need::OtherUser], [a_kernel_that_may_not_be_read_is_refused]));
    cases
}

/// ELF header and one loadable segment of `len` bytes at `paddr`, of which 16 are in the file.
fn elf(class: u8, machine: u16, kind: u16, paddr: u64, len: u64) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(kind.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend(paddr.to_le_bytes());
    file.extend(64_u64.to_le_bytes());
    file.extend([0; 8 + 4]);
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    file.extend(5_u32.to_le_bytes());
    for word in [120, paddr, paddr, 16, len, 4096] {
        file.extend(u64::to_le_bytes(word));
    }
    file.extend([0xf4; 16]);
    file
}

const X86_64: u16 = 62;
const I386: u16 = 3;
const AARCH64: u16 = 183;
const RISCV: u16 = 243;
const EXECUTABLE: u16 = 2;
const MIB: u64 = 1 << 20;

/// A sound kernel of a few bytes that halts.
fn sound_elf() -> Vec<u8> {
    elf(2, X86_64, EXECUTABLE, MIB, 4096)
}

/// A bzImage whose headers promise `paragraphs` of protected-mode code, with `have` bytes of it.
fn bzimage(version: u16, xloadflags: u16, paragraphs: u32, have: usize) -> Vec<u8> {
    let mut file = vec![0; 1024];
    file[0x1f1] = 1; // One setup sector beside the boot sector.
    file[0x1f4..0x1f8].copy_from_slice(&paragraphs.to_le_bytes());
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x200..0x202].copy_from_slice(&[0xeb, 0x66]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&version.to_le_bytes());
    file[0x211] = 1; // Loaded at 1 MiB.
    file[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    file[0x230..0x234].copy_from_slice(&(2_u32 << 20).to_le_bytes());
    file[0x234] = 1; // Relocatable.
    file[0x236..0x238].copy_from_slice(&xloadflags.to_le_bytes());
    file[0x238..0x23c].copy_from_slice(&255_u32.to_le_bytes());
    file[0x258..0x260].copy_from_slice(&(16 * MIB).to_le_bytes());
    file[0x260..0x264].copy_from_slice(&(8_u32 << 20).to_le_bytes());
    file.resize(1024 + have, 0xf4);
    file
}

fn arm64_image() -> Vec<u8> {
    let mut file = b"MZ".to_vec();
    file.resize(4096, 0);
    file[0x38..0x3c].copy_from_slice(b"ARM\x64");
    file
}

/// The rows: a name, a file's bytes, and what is said of it.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static [&'static str])> {
    let sound_bzimage = bzimage(0x20f, 1, 0x100, 0x1000);
    let mut two_thirds = sound_bzimage.clone();
    two_thirds.truncate(3000);
    let mut half_header = sound_bzimage.clone();
    half_header.truncate(0x230);
    let mut half_elf = sound_elf();
    half_elf.truncate(100);
    vec![
        (
            "text",
            b"#!/bin/sh\necho I am no kernel\n".repeat(100),
            &["not a kernel: neither a bzImage nor an ELF"],
        ),
        ("short text", b"hello".to_vec(), &["not a kernel"]),
        ("empty", Vec::new(), &["not a kernel"]),
        ("zeros", vec![0; 1 << 16], &["not a kernel"]),
        ("arm64-elf", elf(2, AARCH64, EXECUTABLE, MIB, 4096), &["made for", "this machine is an x86-64"]),
        ("arm64-image", arm64_image(), &["made for arm64", "this machine is an x86-64"]),
        ("riscv-elf", elf(2, RISCV, EXECUTABLE, MIB, 4096), &["made for", "this machine is an x86-64"]),
        ("i386-elf", elf(1, I386, EXECUTABLE, MIB, 4096), &["made for", "this machine is an x86-64"]),
        ("shared-object", elf(2, X86_64, 3, MIB, 4096), &["type 3, not an executable"]),
        ("half-elf", half_elf, &["truncated"]),
        ("low-elf", elf(2, X86_64, EXECUTABLE, 4096, 4096), &["lies below 1 MiB"]),
        ("high-elf", elf(2, X86_64, EXECUTABLE, u64::MAX - 4096, 4096), &["does not end below"]),
        ("endless-elf", elf(2, X86_64, EXECUTABLE, MIB, u64::MAX), &["does not end below"]),
        ("gzip", b"\x1f\x8b\x08\0".repeat(1000), &["compressed with gzip", "unpack it, or use the bzImage"]),
        ("zstd", b"\x28\xb5\x2f\xfd".repeat(1000), &["compressed with zstd", "unpack it"]),
        ("truncated-bzimage", two_thirds, &["truncated", "promise 5120 bytes, it has 3000"]),
        ("half-header", half_header, &["truncated"]),
        ("old-bzimage", bzimage(0x204, 1, 0x100, 0x1000), &["boot protocol 2.04, at least 2.12 is needed"]),
        ("32-bit-bzimage", bzimage(0x20f, 0, 0x100, 0x1000), &["no 64-bit entry point"]),
        ("bzimage-without-code", bzimage(0x20f, 1, 0, 0), &["syssize"]),
    ]
}

fn a_kernel_that_is_none_is_refused() {
    let here = Scratch::new();
    std::fs::create_dir(here.path("directory")).expect("a scratch directory can be written");
    let row =
        |kernel: &Path, says| Row { what: "kernel", args: args!["boot", "--kernel", kernel], code: 1, says };
    let mut rows = vec![
        row(&here.path("missing"), &["missing", "No such file or directory"]),
        row(&here.path("directory"), &["directory", "the kernel is not a regular file"]),
        row(Path::new("/dev/null"), &["/dev/null", "the kernel is not a regular file"]),
    ];
    for (name, bytes, says) in refused() {
        let path = here.file(name, bytes);
        rows.push(row(&path, says));
        // A bake says the same, and leaves nothing.
        let args = args!["bake", "--ready", "port", "--out", "image", "--kernel", path];
        rows.push(Row { what: "kernel to bake", args, code: 1, says });
    }
    check(&here, rows);
}

fn a_kernel_that_may_not_be_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let here = Scratch::new();
    // So that somebody else can get at what is in it.
    std::fs::set_permissions(here.root(), PermissionsExt::from_mode(0o755)).expect("it is ours");
    let kernel = here.file("kernel", sound_elf());
    std::fs::set_permissions(&kernel, PermissionsExt::from_mode(0o600)).expect("it is ours");
    Launch::new(args!["boot", "--kernel", kernel])
        .under(crate::host::OTHER_USER)
        .run()
        .fails(1, &["kernel", "Permission denied"]);
}

fn a_kernel_that_does_not_fit_is_refused() {
    let here = Scratch::new();
    let large = here.file("large", elf(2, X86_64, EXECUTABLE, MIB, 16 * MIB));
    let unpacks = here.file("unpacks", bzimage(0x20f, 1, 0x100, 0x1000));
    let rows = [large, unpacks].map(|kernel| Row {
        what: "memory too small",
        args: args!["boot", "--memory", "16M", "--kernel", kernel],
        code: 1,
        says: &["memory is too small for the kernel: it needs", "there are 16777216 below 3 GiB"],
    });
    check(&here, rows.into());
}

fn what_the_kernel_is_given_is_checked() {
    let here = Scratch::new();
    let kernel = here.file("kernel", sound_elf());
    let bzimage = here.file("bzimage", bzimage(0x20f, 1, 0x100, 0x1000));
    let initrd = here.file("initrd", vec![7; 17 << 20]);
    let empty = here.file("empty", "");
    let boot = |initrd: &Path| args!["boot", "--memory", "16M", "--kernel", &kernel, "--initrd", initrd];
    let row = |what, args, says| Row { what, args, code: 1, says };
    let rows = vec![
        row("initrd missing", boot(&here.path("missing")), &["missing", "No such file or directory"]),
        row("initrd a directory", boot(here.root()), &["the initrd is not a regular file"]),
        row("initrd empty", boot(&empty), &["the initrd is empty"]),
        row("initrd too large", boot(&initrd), &["the initrd has 17825792 bytes, and there is room for"]),
        row(
            "command line too long for an ELF kernel",
            args!["boot", "--kernel", &kernel, "--cmdline", "x".repeat(2048)],
            &["the command line has 2048 bytes, the kernel reads at most 2047"],
        ),
        row(
            "command line too long for this bzImage",
            args!["boot", "--kernel", &bzimage, "--cmdline", "x".repeat(256)],
            &["the command line has 256 bytes, the kernel reads at most 255"],
        ),
        row(
            "command line too long for spark",
            args!["boot", "--cmdline", "x".repeat(4096)],
            &["the command line has 4096 bytes"],
        ),
    ];
    check(&here, rows);
}

/// There is no memory in the hole for devices, so nobody can say what the instruction there is.
fn a_kernel_that_runs_into_nothing_is_told_where() {
    const NOWHERE: u32 = 0xd000_0000;
    let mut kernel = sound_elf();
    let code = kernel.len() - 16;
    kernel[code] = 0xb8; // mov eax, NOWHERE
    kernel[code + 1..code + 5].copy_from_slice(&NOWHERE.to_le_bytes());
    kernel[code + 5..code + 7].copy_from_slice(&[0xff, 0xe0]); // jmp rax
    let here = Scratch::new();
    let kernel = here.file("kernel", kernel);
    let boot = args!["boot", "--memory", "16M", "--kernel", kernel];
    rekindle(boot).fails(5, &["vCPU 0 cannot go on: KVM", "emulate", "at RIP 0xd0000000"]);
}

/// No argument can carry one, but a library's caller can.
fn a_nul_in_the_command_line_is_refused() {
    let config = VmConfig {
        kernel: KernelConfig::Spark,
        cmdline: Some("spark.fill=1M\0spark.seed=2".to_owned()),
        memory: MemorySize::MIN,
        ..Default::default()
    };
    let connections = Connections::new(None, None, false).expect("eventfds can be made");
    let booted = Guest::open(&config).and_then(|guest| guest.boot(connections));
    let Err(error) = booted else { panic!("it was booted") };
    let said = vmm::control::print_chain(&error);
    assert!(said.contains("the command line has a NUL at byte 13"), "{said}");
}
