//! `struct hvm_start_info` of the PVH protocol (Xen, xen/include/public/arch-x86/hvm/start_info.h).

use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{ByteValued, Bytes, GuestAddress};

use super::{Error, Told, memory_map};
use crate::memory::GuestRam;
use crate::memory::layout;

/// The version that has a memory map.
const VERSION: u32 = 1;
/// Both lie in the page that begins with the start info.
const MODULES: u64 = layout::PVH_START_INFO + 0x40;
const MEMORY_MAP: u64 = layout::PVH_START_INFO + 0x80;
const _: () = assert!(size_of::<hvm_start_info>() <= 0x40 && size_of::<hvm_modlist_entry>() <= 0x40);

/// Writes it at [`layout::PVH_START_INFO`], and returns that.
pub(super) fn write(memory: &GuestRam, told: &Told) -> Result<u64, Error> {
    let map = memory_map::of(told.ram);
    for (at, range) in (MEMORY_MAP..).step_by(size_of::<hvm_memmap_table_entry>()).zip(&map) {
        let kind = range.kind as u32;
        put(
            memory,
            at,
            hvm_memmap_table_entry { addr: range.base, size: range.len, type_: kind, reserved: 0 },
        )?;
    }
    // The first module is the initrd; there is no other.
    if let Some(initrd) = told.initrd {
        let (paddr, size) = (initrd.gpa, initrd.len);
        put(memory, MODULES, hvm_modlist_entry { paddr, size, cmdline_paddr: 0, reserved: 0 })?;
    }
    let info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: VERSION,
        nr_modules: u32::from(told.initrd.is_some()),
        modlist_paddr: if told.initrd.is_some() { MODULES } else { 0 },
        cmdline_paddr: layout::CMDLINE,
        rsdp_paddr: told.rsdp,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    put(memory, layout::PVH_START_INFO, info)?;
    Ok(layout::PVH_START_INFO)
}

fn put<T: ByteValued>(memory: &GuestRam, at: u64, value: T) -> Result<(), Error> {
    memory.write_obj(value, GuestAddress(at)).map_err(|e| Error::write("hvm_start_info", at, e))
}
