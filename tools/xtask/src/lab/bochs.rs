//! The Intel lab's machine: Bochs, which emulates VMX with EPT, where QEMU emulates SVM only.
//!
//! It has no device by which a file system could be shared, so all that the command needs is in the initramfs, and what it
//! says comes out of serial ports. One thread emulates it, at some 50 million instructions a second.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::CONSOLE;
use super::relay::{self, PORTS, Port};
use crate::process;

#[cfg(test)]
#[path = "bochs_test.rs"]
mod bochs_test;

/// Memory in MiB, where nothing else is asked for.
pub const MEMORY_MIB: u64 = 1536;

/// The machine's speed: a second of its own is so many instructions, and a tick of its TSC is one of them.
const INSTRUCTIONS_PER_SECOND: u32 = 50_000_000;

/// The serial ports behind the console, in the order of [`PORTS`], as the lab's `/job/ports` has them.
const DEVICES: [&str; 3] = ["/dev/ttyS1", "/dev/ttyS2", "/dev/ttyS3"];

/// What the machine is made of.
#[derive(Debug)]
pub struct Machine {
    /// A bzImage.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// The lines of `/job/ports`: the name of a port and its device.
pub fn ports() -> String {
    PORTS.iter().zip(DEVICES).map(|(name, device)| format!("{name} {device}\n")).collect()
}

impl Machine {
    /// The machine, with its CD, its configuration and its ports in `dir`.
    pub fn prepare(&self, dir: &Path) -> Result<relay::Machine> {
        self.write_cd(dir).context("cannot make the lab's CD")?;
        fs::write(dir.join("bochsrc"), self.configuration()).context("cannot write Bochs's configuration")?;
        // Debian's Bochs is built with its debugger, which waits for a command.
        fs::write(dir.join("debugger"), "c\n").context("cannot write what Bochs's debugger is told")?;
        let ports = PORTS.map(|name| Port::File(dir.join(name)));
        Ok(relay::Machine { command: command(dir), ports, has_screen: true })
    }

    /// BIOS, boot loader, kernel and initramfs: Bochs itself loads no kernel.
    fn write_cd(&self, dir: &Path) -> Result<()> {
        let tree = dir.join("cd");
        fs::create_dir_all(tree.join("isolinux"))?;
        fs::copy("/usr/lib/ISOLINUX/isolinux.bin", tree.join("isolinux/isolinux.bin"))?;
        fs::copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", tree.join("isolinux/ldlinux.c32"))?;
        fs::write(tree.join("isolinux/isolinux.cfg"), loader_configuration())?;
        fs::copy(&self.kernel, tree.join("kernel"))?;
        fs::rename(&self.initrd, tree.join("initrd"))?;
        let mut make = Command::new("xorriso");
        make.args(["-as", "mkisofs", "-quiet", "-o", "machine.iso", "-b", "isolinux/isolinux.bin"]);
        make.args([
            "-c",
            "isolinux/boot.cat",
            "-no-emul-boot",
            "-boot-load-size",
            "4",
            "-boot-info-table",
            "cd",
        ]);
        process::output(make.current_dir(dir))?;
        fs::remove_dir_all(&tree)?;
        Ok(())
    }

    /// Newer CPU models break: `corei7_skylake_x` disagrees with itself on XSAVE's size, and later versions of Bochs
    /// deliver virtual interrupts with stale vectoring information. This one has no XSAVE.
    fn configuration(&self) -> String {
        let Self { memory_mib, .. } = self;
        let [out, err, ctl] = PORTS;
        format!(
            "cpu: model=corei7_haswell_4770, count=1, ips={INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=0, \
             ignore_bad_msrs=1\n\
             memory: guest={memory_mib}, host={memory_mib}\n\
             romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
             vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
             display_library: term\n\
             clock: sync=none, time0=utc\n\
             ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
             ata0-master: type=cdrom, path=machine.iso, status=inserted\n\
             boot: cdrom\n\
             com1: enabled=1, mode=file, dev={CONSOLE}\n\
             com2: enabled=1, mode=file, dev={out}\n\
             com3: enabled=1, mode=file, dev={err}\n\
             com4: enabled=1, mode=file, dev={ctl}\n\
             pci: enabled=1, chipset=i440bx\n\
             plugin_ctrl: usb_uhci=0, parallel=0, gameport=0, speaker=0, busmouse=0, sb16=0, es1370=0, e1000=0, \
             ne2k=0, voodoo=0\n\
             log: bochs.log\n\
             panic: action=fatal\n\
             error: action=ignore\n\
             info: action=ignore\n"
        )
    }
}

fn loader_configuration() -> String {
    let khz = INSTRUCTIONS_PER_SECOND / 1000;
    format!(
        "default lab\nprompt 0\nlabel lab\n kernel /kernel\n append initrd=/initrd console=ttyS0 quiet nokaslr \
         tsc_early_khz={khz} mitigations=off panic=-1 no_timer_check random.trust_cpu=on\n"
    )
}

/// The command that runs the machine in the foreground, in `dir`, under `setpriv`, so that the kernel kills it when we die.
///
/// Of Bochs's displays the one that draws into a terminal needs least; with its debugger, it makes that terminal itself.
fn command(dir: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "bochs-bin", "-rc", "debugger", "-q", "-f", "bochsrc"]);
    command.env("TERM", "linux").current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}
