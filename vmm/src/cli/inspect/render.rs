//! The view for a person.

use std::fmt::Write;

use vmm::config::MemorySize;

use super::super::exit::printable;
use super::view::{HostView, MemoryView, OutsideView, SectionView, View, WorkingSetView};

/// A table: the image first, then what it needs, then its devices and its sections.
pub(super) fn human(view: &View) -> String {
    let View {
        image,
        image_id,
        parent_id,
        generation,
        created,
        created_ns: _,
        written_by,
        guest,
        cmdline,
        vcpus,
        memory_bytes,
        memory: kept,
        working_set,
        host,
        devices,
        outside,
        sections,
    } = view;
    let HostView { cpu_vendor, kvm_kind, tsc_khz, xsave_bytes, uses_xsave, kvm_caps, cpuid } = host;
    let mut table = Table::default();
    table.row("image", image);
    table.row("id", image_id);
    table.row("parent", parent_id.as_deref().unwrap_or("none: booted, not restored"));
    table.row("generation", &generation.to_string());
    table.row("created", created);
    table.row("written by", written_by);
    table.row("guest", guest);
    table.row("command line", cmdline);
    table.row("vCPUs", &vcpus.to_string());
    table.row("memory", &(memory(*memory_bytes) + &how_kept(kept)));
    match working_set {
        Some(WorkingSetView::Good { pages, written_pages }) => {
            table.row("working set", &format!("{pages} pages, {written_pages} written"));
        }
        Some(WorkingSetView::Unusable { error }) => table.row("working set", &format!("unusable: {error}")),
        None => {}
    }
    table.row("needs CPU", cpu_vendor);
    table.row("needs KVM", kvm_kind);
    table.row("needs TSC", &format!("{tsc_khz} kHz"));
    // The area that KVM keeps has 4096 bytes on a host without XSAVE as well.
    if *uses_xsave {
        table.row("needs XSAVE", &format!("{xsave_bytes} bytes"));
    }
    table.row("needs caps", &kvm_caps.join(" "));
    for word in cpuid {
        table.row("needs CPUID", &format!("{} {}", word.word, word.bits));
    }
    match devices {
        Some(devices) => devices.iter().for_each(|device| table.row("device", &device.to_string())),
        None => table.row("device", "unknown: this build cannot read them"),
    }
    for OutsideView { what, option: _ } in outside.iter().flatten() {
        table.row("not its own", what);
    }
    for SectionView { name, version, bytes } in sections {
        table.row("section", &format!("{name:<16} version {version:<3} {bytes:>8} bytes"));
    }
    table.0
}

/// A size that this build could boot with is shown as it would be typed.
fn memory(bytes: u64) -> String {
    MemorySize::from_bytes(bytes).map_or_else(|_| format!("{bytes} bytes"), |size| size.to_string())
}

/// A file to be mapped is what one expects.
fn how_kept(memory: &MemoryView) -> String {
    match memory {
        MemoryView::Plain => String::new(),
        MemoryView::Packed { bytes } => format!(", packed, {:.1} MiB", *bytes as f64 / f64::from(1 << 20)),
        MemoryView::Elsewhere => ", not in the image".to_owned(),
    }
}

#[derive(Default)]
struct Table(String);

impl Table {
    /// One line. An image is not trusted: its strings may hold line ends and terminal codes.
    fn row(&mut self, name: &str, value: &str) {
        let value = printable(&value.replace('\n', "\\n"));
        writeln!(self.0, "{name:<13} {value}").expect("a String takes what it is given");
    }
}
