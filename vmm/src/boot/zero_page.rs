//! `struct boot_params` of the Linux boot protocol, the "zero page" (Linux,
//! Documentation/arch/x86/zero-page.rst).

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress};

use super::{Error, Told, cmdline, memory_map};
use crate::memory::GuestRam;
use crate::memory::layout;

const _: () = assert!(size_of::<boot_params>() as u64 == layout::PAGE_SIZE);

/// "HdrS", and the sector's own magic number.
const HEADER_MAGIC: u32 = 0x5372_6448;
const BOOT_FLAG: u16 = 0xAA55;
/// A boot loader without a number of its own.
const UNKNOWN_LOADER: u8 = 0xFF;
/// The version whose fields are filled in for a kernel that brings no header.
const VERSION: u16 = 0x020C;

/// Writes it at [`layout::ZERO_PAGE`], and returns that.
///
/// `screen_info` stays zero: a screen of no lines keeps the kernel from probing for a VGA.
pub(super) fn write(memory: &GuestRam, told: &Told, setup: Option<setup_header>) -> Result<u64, Error> {
    let mut params = boot_params { hdr: header(told, setup), ..Default::default() };
    params.acpi_rsdp_addr = told.rsdp;
    let map = memory_map::of(told.ram);
    params.e820_entries = map.len() as u8;
    let mut table = params.e820_table;
    for (entry, range) in table.iter_mut().zip(map) {
        *entry = boot_e820_entry { addr: range.base, size: range.len, r#type: range.kind as u32 };
    }
    params.e820_table = table;
    memory
        .write_obj(params, GuestAddress(layout::ZERO_PAGE))
        .map_err(|e| Error::write("boot_params", layout::ZERO_PAGE, e))?;
    Ok(layout::ZERO_PAGE)
}

/// The kernel's own header, with the fields that a boot loader fills in.
fn header(told: &Told, setup: Option<setup_header>) -> setup_header {
    let own = setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        version: VERSION,
        cmdline_size: cmdline::DEFAULT_MAX as u32,
        ..Default::default()
    };
    let initrd = told.initrd;
    setup_header {
        type_of_loader: UNKNOWN_LOADER,
        ext_loader_ver: 0,
        ext_loader_type: 0,
        code32_start: layout::KERNEL_START as u32,
        // The head of a list of further data, of which there is none: a file must not name an address here.
        setup_data: 0,
        cmd_line_ptr: layout::CMDLINE as u32,
        ramdisk_image: initrd.map_or(0, |initrd| initrd.gpa as u32),
        ramdisk_size: initrd.map_or(0, |initrd| initrd.len as u32),
        ..setup.unwrap_or(own)
    }
}
