//! The lab's kernel without its compression: to unpack it, software emulation takes as long as for all the
//! rest of boot.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::guests::kernel::Kernel;
use crate::{place, process};

#[cfg(test)]
#[path = "uncompressed_test.rs"]
mod uncompressed_test;

/// What an XZ stream begins with.
const XZ: &[u8] = b"\xfd7zXZ\0";

/// The ELF image inside a kernel's bzImage, kept in the lab's directory. QEMU enters it by its PVH note.
///
/// A kernel that is packed otherwise than by XZ, which is what Debian's generic kernels are, is returned as
/// it is.
pub fn image(kernel: &Kernel) -> Result<PathBuf> {
    let path = place::lab().join(format!("vmlinux-{}-{}", kernel.manifest.release, kernel.manifest.version));
    if path.exists() {
        return Ok(path);
    }
    let packed = kernel.image();
    let image = fs::read(&packed).with_context(|| format!("cannot read {}", packed.display()))?;
    let Some(payload) = payload(&image).filter(|payload| payload.starts_with(XZ)) else { return Ok(packed) };

    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(place::lab()).context("cannot create the lab's directory")?;
    fs::write(&partial, payload).context("cannot write the lab's packed kernel")?;
    // The length of the kernel follows the stream.
    let unpacked = process::bytes(process::unxz().arg("--single-stream").arg(&partial))?;
    fs::write(&partial, unpacked).context("cannot write the lab's kernel")?;
    fs::rename(&partial, &path).context("cannot move the lab's kernel to its place")?;
    Ok(path)
}

/// The compressed kernel within a bzImage, by the setup header of the kernel's
/// `Documentation/arch/x86/boot.rst`.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let version = word(0x206)? & 0xffff;
    if image.get(0x202..0x206)? != b"HdrS" || version < 0x208 {
        return None;
    }
    // Zero stands for four, as ever since the first kernels.
    let setup_sectors = match *image.get(0x1f1)? {
        0 => 4,
        n => usize::from(n),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    image.get(start..start.checked_add(word(0x24c)?)?)
}
