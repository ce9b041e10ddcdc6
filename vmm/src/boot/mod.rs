//! The cold path: a kernel file, an initrd and a command line become guest memory and the first vCPU's
//! registers.
//!
//! Everything is checked before the first byte of guest memory is written, because a kernel file is just a
//! file. What the guest does after its first instruction is nobody's business here.

use crate::arch::x86_64::{acpi, gdt, mp_table, page_tables};
use crate::memory::GuestRam;
use crate::memory::layout::{self, RamLayout};

mod bzimage;
mod cmdline;
mod elf;
mod error;
mod initrd;
mod kernel;
mod memory_map;
mod pvh;
mod source;
mod zero_page;

#[cfg(test)]
mod boot_test;
#[cfg(test)]
mod images_test;

pub use crate::arch::x86_64::regs::{EntryPoint, Protocol};
pub use cmdline::with_parameters;
pub use error::Error;
pub use initrd::Initrd;
pub use kernel::Kernel;

/// What a kernel is told beside its memory.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    /// The kernel command line, without a NUL.
    pub cmdline: &'a str,
    /// Number of vCPUs, 1 to [`acpi::MAX_CPUS`].
    pub cpus: u32,
    /// What ACPI describes beside the devices that are always there.
    pub devices: &'a [acpi::Device<'a>],
}

/// Puts the kernel and everything that it is told into guest memory.
///
/// `memory` must have the regions of `ram` and read as zero.
///
/// # Errors
/// Anything that does not fit or makes no sense is refused before guest memory is touched. Only a failure to
/// read the files, or a kernel note that contradicts the kernel's segments, is found later; the memory is
/// then of no use.
pub fn load(
    kernel: &mut Kernel<'_>,
    initrd: Option<&mut Initrd<'_>>,
    config: &Config<'_>,
    memory: &GuestRam,
    ram: RamLayout,
) -> Result<EntryPoint, Error> {
    kernel.fits(ram)?;
    cmdline::check(config.cmdline, kernel.cmdline_max())?;
    let initrd = initrd.map(|initrd| initrd.place(kernel, ram).map(|at| (initrd, at))).transpose()?;
    let rsdp = acpi::write(memory, config.cpus, config.devices).map_err(Error::Acpi)?;
    mp_table::write(memory, config.cpus).map_err(|e| Error::write("the MP table", layout::MP_TABLE, e))?;

    let (protocol, rip) = kernel.load(memory)?;
    let initrd = initrd.map(|(initrd, at)| initrd.load(memory, at)).transpose()?;
    cmdline::write(config.cmdline, memory)?;
    let told = Told { initrd, rsdp, ram };
    let boot_data = match protocol {
        Protocol::Linux64 => {
            page_tables::write(memory).map_err(|e| Error::write("page tables", layout::PAGE_TABLES, e))?;
            zero_page::write(memory, &told, kernel.setup_header())?
        }
        Protocol::Pvh => pvh::write(memory, &told)?,
    };
    gdt::write(memory, protocol).map_err(|e| Error::write("the GDT", layout::GDT, e))?;
    Ok(EntryPoint { protocol, rip, boot_data })
}

/// What both protocols tell a kernel, each in its own form.
struct Told {
    /// Where the initrd lies.
    initrd: Option<Placed>,
    /// Guest-physical address of the ACPI tables' root.
    rsdp: u64,
    ram: RamLayout,
}

/// A stretch of guest memory that holds a file; below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    gpa: u64,
    len: u64,
}
