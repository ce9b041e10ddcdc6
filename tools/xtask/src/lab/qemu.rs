//! The lab's machine, as a QEMU command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use super::emulator::{Emulator, Version};
use super::relay::{self, PORTS};

/// What the machine is made of.
#[derive(Debug)]
pub struct Machine {
    /// What emulates it.
    pub emulator: Emulator,
    /// A bzImage, or an ELF image with a PVH note.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
    /// The directory that is writable from inside.
    pub share: PathBuf,
    /// Where the serial console is written.
    pub console: PathBuf,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Number of CPUs.
    pub cpus: u32,
}

/// CPU features that the lab does without, by the version from which on they are good to have.
const WITHOUT: [(Option<Version>, &[&str]); 3] = [
    // Nested page tables would have five levels, each a memory access in software.
    (None, &["la57"]),
    // QEMU 7.2 emulates `cmpxchg16b` with stale flags: an interrupt after it may store the low half of RAX as
    // EFLAGS. Kernels use it in their allocator; about one guest in ten died of a double fault.
    (Some(Version(10, 0)), &["cx16"]),
    // QEMU 7.2 lets a guest's `xsetbv` through where KVM intercepts it, so KVM and the guest disagree on
    // XCR0: Linux 6.12 warns of an inconsistent size and gives XSAVE up. What depends on it has to go with
    // it.
    (Some(Version(10, 0)), &["xsave", "xsaveopt", "avx", "avx2", "fma", "f16c", "pku"]),
];

impl Machine {
    /// The machine, with its ports in `dir`: virtio-serial ports, each a Unix socket of that name that QEMU connects to.
    pub fn prepare(&self, dir: &Path) -> Result<relay::Machine> {
        Ok(relay::Machine { command: self.command(dir), ports: relay::listen(dir)?, has_screen: false })
    }

    /// It runs under `setpriv`, so that the kernel kills it when we die, whatever we die of.
    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(&self.emulator.command);
        let cpu = cpu(self.emulator.version);
        command.args(["-accel", "tcg,thread=multi", "-M", "q35", "-cpu", &cpu]);
        command.args(["-smp", &self.cpus.to_string(), "-m", &self.memory_mib.to_string()]);
        command.args(["-nodefaults", "-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot"]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        // QEMU keeps the TSCs of its CPUs in step but does not say so. Without a TSC that the kernel trusts,
        // KVM has no master clock, and its guests get another kvmclock than on real hosts.
        // On a host that is short of time the kernel counts too few ticks of its timer in a busy loop, and panics.
        command.args(["-append", "console=ttyS0 quiet reboot=t panic=-1 tsc=reliable no_timer_check"]);
        command.arg("-serial").arg(format!("file:{}", escaped(&self.console)));
        let root = "local,path=/,mount_tag=outer,security_model=none,readonly=on,multidevs=remap";
        let share = escaped(&self.share);
        let share = format!("local,path={share},mount_tag=share,security_model=none,multidevs=remap");
        command.args(["-virtfs", root, "-virtfs", &share]);
        command.args(["-device", "virtio-serial-pci", "-device", "virtio-rng-pci"]);
        for port in PORTS {
            // Relative: the address of a socket holds 107 bytes, and `dir` may be longer.
            command.args(["-chardev", &format!("socket,id={port},path={port},server=off")]);
            command.args(["-device", &format!("virtserialport,chardev={port},name={port}")]);
        }
        command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

/// The CPU model: everything that this version emulates, with SVM, but for what is wrong or slow there.
fn cpu(version: Version) -> String {
    let without = WITHOUT.iter().filter(|(good, _)| good.is_none_or(|good| version < good));
    let without = without.flat_map(|(_, features)| *features).map(|feature| format!(",-{feature}"));
    format!("max,+svm{}", without.collect::<String>())
}

/// A path as a value in QEMU's option syntax, where a comma is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
#[path = "qemu_test.rs"]
mod qemu_test;
