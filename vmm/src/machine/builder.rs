//! The cold path: from what a VM is to be, to a machine that stands before its first instruction.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kvm_bindings::kvm_cpuid_entry2;
use kvm_ioctls::Cap;

use super::{Connections, Error, Frame, GuestFacts, Host, Parts, PausedVm};
use crate::arch::x86_64::cpuid::{self, Emulated, Topology};
use crate::arch::x86_64::{acpi, msr};
use crate::boot::{self, EntryPoint, Initrd, Kernel};
use crate::config::{KernelConfig, VmConfig};
use crate::device::DeviceSet;
use crate::device::virtio::{self, VirtioSet};
use crate::memory::Memory;
use crate::memory::layout::RamLayout;
use crate::vcpu::{Blank, Vcpu};

/// The built-in guest, an ELF file made by the build script from `vmm/spark`.
const SPARK: &[u8] = include_bytes!(env!("SPARK_ELF"));

/// What the built-in guest is called in images.
const SPARK_NAME: &str = "spark";

/// The command line of a kernel that is given none: the console on the serial port, a reset on a panic, and by the
/// keyboard controller; no search for a PCI bus, because there is none.
const DEFAULT_CMDLINE: &str = "console=ttyS0 reboot=k panic=-1 pci=off";

/// What is to be booted: its files open and their headers checked, nothing created yet.
pub struct Guest<'a> {
    name: String,
    cmdline: String,
    kernel: Kernel<'a>,
    initrd: Option<Initrd<'a>>,
    ram: RamLayout,
    cpus: u32,
    virtio: virtio::Parts,
    /// Whether its command line names the devices as well, for a kernel that has no ACPI.
    devices_by_parameter: bool,
}

impl Guest<'_> {
    /// Opens what `config` names. A wrong path or a file that is no kernel costs nothing.
    pub fn open(config: &VmConfig) -> Result<Self, Error> {
        let ram = RamLayout::new(config.memory.bytes()).map_err(Error::Layout)?;
        let cpus = config.cpus.get().into();
        let virtio = virtio::Parts::open(&config.devices).map_err(Error::Virtio)?;
        match &config.kernel {
            KernelConfig::Spark => Ok(Self {
                name: SPARK_NAME.to_owned(),
                cmdline: config.cmdline.clone().unwrap_or_default(),
                kernel: Kernel::from_bytes(SPARK).map_err(refused(SPARK_NAME))?,
                initrd: None,
                ram,
                cpus,
                virtio,
                devices_by_parameter: false,
            }),
            KernelConfig::File { kernel, initrd } => Ok(Self {
                name: kernel.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                cmdline: config.cmdline.clone().unwrap_or_else(|| DEFAULT_CMDLINE.to_owned()),
                kernel: Kernel::from_file(open(kernel)?).map_err(refused(&kernel.display().to_string()))?,
                initrd: initrd.as_deref().map(open_initrd).transpose()?,
                ram,
                cpus,
                virtio,
                devices_by_parameter: true,
            }),
        }
    }

    /// Builds its machine, the kernel loaded, paused before its first instruction.
    pub fn boot(self, connections: Connections) -> Result<PausedVm, Error> {
        let Self { name, mut cmdline, mut kernel, mut initrd, ram, cpus, virtio, devices_by_parameter } =
            self;
        let host = Host::open()?;
        let supported = host.supported_cpuid()?;
        check_address_bits(ram, cpuid::physical_bits(&supported))?;
        let memory = Memory::anonymous(ram).map_err(Error::Memory)?;
        let virtio = VirtioSet::build(virtio, memory.ram()).map_err(Error::Virtio)?;
        let slots = virtio.slots();
        if devices_by_parameter {
            cmdline = boot::with_parameters(&cmdline, slots.iter().map(|slot| slot.kernel_parameter()));
        }
        let described: Vec<acpi::Device<'_>> = slots.iter().map(|slot| slot as acpi::Device<'_>).collect();
        let told = boot::Config { cmdline: &cmdline, cpus, devices: &described };
        let entry =
            boot::load(&mut kernel, initrd.as_mut(), &told, memory.ram(), ram).map_err(refused(&name))?;
        let frame = Frame::create(&host, memory)?;
        let vcpus = vcpus(&host, &supported, &frame, cpus, &entry)?;
        let Connections { wiring, stop } = connections;
        frame.bind(&wiring.lines())?;
        frame.bind(&virtio.lines())?;
        frame.ring(&virtio.doorbells())?;
        let devices = DeviceSet::build(wiring, frame.memory.ram()).map_err(Error::Device)?;
        let shared = Frame::share(&devices, &virtio, stop)?;
        let facts = GuestFacts { guest: name, cmdline, ..Default::default() };
        Ok(PausedVm::new(vcpus, Parts { frame, devices, virtio, shared, facts }, None))
    }
}

fn open_initrd<'a>(path: &Path) -> Result<Initrd<'a>, Error> {
    Initrd::from_file(open(path)?).map_err(refused(&path.display().to_string()))
}

/// Opens a file without waiting for anybody to write to it, should it be a pipe: that is refused later, by its type.
fn open(path: &Path) -> Result<File, Error> {
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    opened.map_err(|source| Error::Open { path: path.to_owned(), source })
}

fn refused(guest: &str) -> impl FnOnce(boot::Error) -> Error + use<> {
    let guest = guest.to_owned();
    move |source| Error::Boot { guest, source }
}

/// Guest RAM must have addresses: 39 bits of them on many processors for clients, 36 on old ones.
fn check_address_bits(ram: RamLayout, bits: u32) -> Result<(), Error> {
    let end = ram.regions().last().map_or(0, |region| region.end());
    let most = 1_u64.checked_shl(bits).unwrap_or(u64::MAX);
    if end <= most { Ok(()) } else { Err(Error::AddressBits { end, bits }) }
}

/// Creates the vCPUs. The first enters the kernel; the others wait for its INIT and SIPI.
fn vcpus(
    host: &Host,
    supported: &[kvm_cpuid_entry2],
    frame: &Frame,
    cpus: u32,
    entry: &EntryPoint,
) -> Result<Vec<Vcpu>, Error> {
    let listed = host.listed_msrs()?;
    let emulated = Emulated {
        tsc_deadline: host.kvm().check_extension(Cap::TscDeadlineTimer),
        // The LAPIC is always the kernel's here, and that has an x2APIC mode.
        x2apic: true,
    };
    let make = |id| {
        let blank = Blank::create(&frame.vm, id, frame.traits)?;
        let cpuid = cpuid::for_vcpu(supported, Topology { vcpu: id, cpus }, emulated);
        let mut vcpu = blank.boot(&cpuid, &msr::to_save(&listed, &cpuid))?;
        if id == 0 {
            vcpu.enter_at(entry)?;
        }
        Ok(vcpu)
    };
    (0..cpus).map(make).collect::<Result<_, _>>().map_err(Error::Vcpu)
}

#[cfg(test)]
#[path = "builder_test.rs"]
mod builder_test;
