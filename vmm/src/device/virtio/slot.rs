//! Places for virtio-mmio devices: an address and an interrupt each, and how a kernel is told of them.

use acpi_tables::aml::{Device, Interrupt, Memory32Fixed, Name, ResourceTemplate};
use acpi_tables::{Aml, AmlSink};

use crate::arch::x86_64::gsi;
use crate::memory::layout;

/// How many there are: one for each pin of the IOAPIC that no ISA device has, GSI 16 to 23.
pub const COUNT: u8 = 8;

/// `_STA`: present, enabled, shown, working.
const PRESENT: u8 = 0x0f;

/// A place. As [`Aml`], it is the device node of whatever has the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u8);

impl Slot {
    /// Place number `number`, if it is below [`COUNT`].
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < COUNT { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Guest-physical address of the registers.
    #[must_use]
    pub const fn base(self) -> u64 {
        layout::VIRTIO_MMIO_START + self.0 as u64 * Self::BYTES
    }

    /// Bytes from [`Self::base`] on that belong to the device.
    pub const BYTES: u64 = layout::PAGE_SIZE;

    /// The interrupt.
    #[must_use]
    pub const fn gsi(self) -> u32 {
        gsi::FIRST_FREE + self.0 as u32
    }

    /// The place as a parameter on the command line of a kernel that has `CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES`
    /// (Linux's `drivers/virtio/virtio_mmio.c`). Other kernels pass it over. One that has ACPI as well knows the
    /// device by then, and tells the second claim to its registers off.
    #[must_use]
    pub fn kernel_parameter(self) -> String {
        format!("virtio_mmio.device=4K@{:#x}:{}", self.base(), self.gsi())
    }
}

impl Aml for Slot {
    /// Edge-triggered and not shared, although virtio-mmio's interrupt is a level in the standard: see
    /// [`super::transport::Interrupt`].
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        let base = u32::try_from(self.base()).expect("devices lie in the hole below 4 GiB");
        let registers = Memory32Fixed::new(true, base, Self::BYTES as u32);
        let interrupt = Interrupt::new(true, true, false, false, self.gsi());
        let hid = Name::new("_HID".into(), &"LNRO0005");
        let uid = Name::new("_UID".into(), &self.0);
        let status = Name::new("_STA".into(), &PRESENT);
        let resources = Name::new("_CRS".into(), &ResourceTemplate::new(vec![&registers, &interrupt]));
        let name = format!("VR{:02}", self.0);
        Device::new(name.as_str().into(), vec![&hid, &uid, &status, &resources]).to_aml_bytes(sink);
    }
}
