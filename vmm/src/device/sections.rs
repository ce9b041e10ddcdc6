//! Which section of an image each device's state lies in.

use snapshot_format::{Error, StateReader, StateWriter};

use super::set::DeviceSetState;
use super::{acpi_pm, i8042, identity, pvpanic, ready_port, rtc, serial};

impl DeviceSetState {
    /// Adds every device's section.
    pub fn write(&self, image: &mut StateWriter) -> Result<(), Error> {
        let Self { serial, i8042, rtc, acpi_pm, ready_port, pvpanic, identity } = self;
        image.add(serial::SECTION, serial)?;
        image.add(i8042::SECTION, i8042)?;
        image.add(rtc::SECTION, rtc)?;
        image.add(acpi_pm::SECTION, acpi_pm)?;
        image.add(ready_port::SECTION, ready_port)?;
        image.add(pvpanic::SECTION, pvpanic)?;
        image.add(identity::SECTION, identity)
    }

    /// Takes every device's section. What they say is checked when the devices are restored from them.
    pub fn read(image: &mut StateReader<'_>) -> Result<Self, Error> {
        Ok(Self {
            serial: image.take(serial::SECTION)?,
            i8042: image.take(i8042::SECTION)?,
            rtc: image.take(rtc::SECTION)?,
            acpi_pm: image.take(acpi_pm::SECTION)?,
            ready_port: image.take(ready_port::SECTION)?,
            pvpanic: image.take(pvpanic::SECTION)?,
            identity: image.take(identity::SECTION)?,
        })
    }
}
