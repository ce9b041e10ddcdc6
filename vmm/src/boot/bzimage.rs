//! The Linux kernel as distributions have it: it unpacks itself. Entered by the 64-bit protocol (Linux,
//! Documentation/arch/x86/boot.rst).

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::{ByteValued, GuestAddress};

use super::source::Source;
use super::{Error, Protocol, cmdline};
use crate::memory::GuestRam;
use crate::memory::layout;

/// "HdrS", what makes a file a kernel of boot protocol 2.00 or later.
pub(super) const MAGIC: &[u8] = b"HdrS";
/// Where it is.
pub(super) const MAGIC_OFFSET: usize = 0x202;

/// Where the setup header begins in the file.
const SETUP_HEADER: u64 = 0x1F1;
/// Where the jump's distance is, which tells where the setup header ends.
const JUMP_DISTANCE: usize = 0x201 - SETUP_HEADER as usize;
/// From where that distance counts.
const JUMP_FROM: usize = 0x202 - SETUP_HEADER as usize;
const SECTOR: u64 = 512;
/// What 0 setup sectors mean, for the sake of very old kernels.
const DEFAULT_SETUP_SECTORS: u8 = 4;
/// `syssize` counts paragraphs.
const PARAGRAPH: u64 = 16;
/// The 64-bit entry point, counted from where the protected-mode code is loaded.
const ENTRY64: u64 = 0x200;
/// The first version with `xloadflags`.
const MIN_VERSION: u16 = 0x020C;
/// `loadflags`: the protected-mode code belongs at 1 MiB.
const LOADED_HIGH: u8 = 1 << 0;
/// `xloadflags`: there is a 64-bit entry point.
const XLF_KERNEL_64: u16 = 1 << 0;

/// A setup header that has been checked.
pub(super) struct Header {
    setup: setup_header,
    /// End of the protected-mode code in the file; a signature may follow it.
    file_end: u64,
    /// First address after the memory in which the kernel unpacks itself.
    end: u64,
}

impl Header {
    pub(super) fn read(source: &mut Source<'_>) -> Result<Self, Error> {
        let mut bytes = [0; size_of::<setup_header>()];
        let found = source.read_at(SETUP_HEADER, &mut bytes).map_err(Error::read("the kernel"))?;
        if found < bytes.len() {
            let expected = SETUP_HEADER + bytes.len() as u64;
            return Err(Error::Truncated { expected, found: source.len() });
        }
        // What lies behind the header's own end is code, not fields.
        let end = JUMP_FROM + usize::from(bytes[JUMP_DISTANCE]);
        bytes.iter_mut().skip(end).for_each(|byte| *byte = 0);
        let mut setup = setup_header::default();
        setup.as_mut_slice().copy_from_slice(&bytes);
        Self::check(setup, source.len())
    }

    fn check(setup: setup_header, file_len: u64) -> Result<Self, Error> {
        let version = setup.version;
        if version < MIN_VERSION {
            return Err(Error::ProtocolTooOld { major: version >> 8, minor: version & 0xFF });
        }
        if setup.loadflags & LOADED_HIGH == 0 || setup.xloadflags & XLF_KERNEL_64 == 0 {
            return Err(Error::No64BitEntry);
        }
        let sectors = if setup.setup_sects == 0 { DEFAULT_SETUP_SECTORS } else { setup.setup_sects };
        let code = (u64::from(sectors) + 1) * SECTOR;
        let code_len = u64::from(setup.syssize) * PARAGRAPH;
        if code_len <= ENTRY64 {
            return Err(Error::Header { field: "syssize", value: u64::from(setup.syssize) });
        }
        let file_end = code + code_len;
        if file_end > file_len {
            return Err(Error::Truncated { expected: file_end, found: file_len });
        }
        let end = memory_end(&setup)?.max(layout::KERNEL_START + code_len);
        Ok(Self { setup, file_end, end })
    }

    /// The setup header as the file has it.
    pub(super) fn setup(&self) -> setup_header {
        self.setup
    }

    pub(super) fn cmdline_max(&self) -> u64 {
        // Ours is the smaller of both limits only if the kernel's is beyond reason.
        u64::from(self.setup.cmdline_size).min(cmdline::ROOM - 1)
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn initrd_limit(&self) -> u64 {
        u64::from(self.setup.initrd_addr_max) + 1
    }

    pub(super) fn load(&self, source: &mut Source<'_>, memory: &GuestRam) -> Result<(Protocol, u64), Error> {
        // The loader takes all that follows the setup code, so it must not see a signature or other things
        // there.
        source.cut(self.file_end);
        let at = GuestAddress(layout::KERNEL_START);
        let loaded = BzImage::load(memory, Some(at), source, None).map_err(Error::Load)?;
        Ok((Protocol::Linux64, loaded.kernel_load.0 + ENTRY64))
    }
}

/// The end of the memory in which the kernel unpacks itself.
///
/// A kernel that was loaded below its preferred address moves there, relocatable or not (Linux,
/// arch/x86/boot/compressed/head_64.S), and needs `init_size` bytes from there on.
fn memory_end(setup: &setup_header) -> Result<u64, Error> {
    let start = if setup.relocatable_kernel == 0 {
        setup.pref_address
    } else {
        let alignment = u64::from(setup.kernel_alignment);
        if !alignment.is_power_of_two() {
            return Err(Error::Header { field: "kernel_alignment", value: alignment });
        }
        layout::KERNEL_START.next_multiple_of(alignment).max(setup.pref_address)
    };
    let refused = Error::Header { field: "pref_address", value: setup.pref_address };
    start.checked_add(u64::from(setup.init_size)).ok_or(refused)
}
