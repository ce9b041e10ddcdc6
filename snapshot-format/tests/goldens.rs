//! Images that earlier versions of this crate wrote: every build loads all of them.

use std::io::Read;
use std::path::{Path, PathBuf};

use snapshot_format::pages::pack::Coding;
use snapshot_format::pages::{PackIndex, verify};
use snapshot_format::state::{
    AcpiPmState, ChipsetState, ClockState, I8042State, IdentityState, ManifestState, MemoryState,
    OverlayState, PvpanicState, ReadyPortState, RtcState, SerialState, VcpuState, VirtioBalloonState,
    VirtioBlkState, VirtioNetState, VirtioRngState, VirtioVsockState,
};
use snapshot_format::testing::samples;
use snapshot_format::{ImageDir, MemoryIndex, Saved, StateReader};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(name)
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory of goldens");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("ASCII")).collect();
    names.sort();
    names
}

fn compare<T: Saved + std::fmt::Debug + PartialEq>(reader: &mut StateReader<'_>, name: &str, expected: &T) {
    assert_eq!(&reader.take::<T>(name).expect(name), expected, "section `{name}`");
}

/// A golden without a test below would be one that nobody loads.
#[test]
fn every_golden_is_loaded_by_a_test() {
    assert_eq!(names(&golden("")), ["v1"]);
    assert_eq!(names(&golden("v1")), ["packed", "sample"]);
}

#[test]
fn v1_sample_says_what_was_written() {
    let image = ImageDir::open(&golden("v1/sample")).expect("the golden is there");
    let mut reader = StateReader::parse(image.state()).expect("the golden is intact");
    assert_eq!(reader.header().format_version, 1);
    let index =
        MemoryIndex::try_from(reader.take::<MemoryState>("memory").expect("memory")).expect("a sound index");
    assert_eq!(index, samples::memory_index());
    compare::<ManifestState>(&mut reader, "manifest", &samples::manifest());
    compare::<ClockState>(&mut reader, "clock", &samples::clock());
    compare::<ChipsetState>(&mut reader, "chipset", &samples::chipset());
    compare::<VcpuState>(&mut reader, "vcpu:0", &samples::vcpu(0));
    compare::<VcpuState>(&mut reader, "vcpu:1", &samples::vcpu(1));
    compare::<SerialState>(&mut reader, "serial:0", &samples::serial());
    compare::<I8042State>(&mut reader, "i8042", &samples::i8042());
    compare::<RtcState>(&mut reader, "rtc", &samples::rtc());
    compare::<AcpiPmState>(&mut reader, "acpi-pm", &samples::acpi_pm());
    compare::<ReadyPortState>(&mut reader, "ready-port", &samples::ready_port());
    compare::<PvpanicState>(&mut reader, "pvpanic", &samples::pvpanic());
    compare::<IdentityState>(&mut reader, "identity", &samples::identity());
    compare::<VirtioRngState>(&mut reader, "virtio-rng", &samples::virtio_rng());
    compare::<VirtioBalloonState>(&mut reader, "virtio-balloon", &samples::virtio_balloon());
    compare::<VirtioBlkState>(&mut reader, "virtio-blk:root", &samples::virtio_blk());
    compare::<VirtioNetState>(&mut reader, "virtio-net:eth0", &samples::virtio_net());
    compare::<VirtioVsockState>(&mut reader, "virtio-vsock", &samples::virtio_vsock());
    compare::<OverlayState>(&mut reader, "overlay:root", &samples::overlay());
    reader.finish().expect("no section is left");

    index.check_len(image.memory_len().expect("it has one")).expect("the golden's memory is whole");
    verify(image.memory().expect("it has one"), &index).expect("the golden's memory is intact");
    let memory = std::fs::read(golden("v1/sample/memory")).expect("the golden is there");
    assert_eq!(memory, samples::memory_file());
}

/// As long as no kind has a version 2, this build writes the same bytes. When one has, this test goes and the one above
/// stays.
#[test]
fn v1_sample_is_what_this_build_writes() {
    let image = ImageDir::open(&golden("v1/sample")).expect("the golden is there");
    assert_eq!(image.state(), samples::state_file().expect("the sample fits"));
}

/// What comes out of its frames is for `page-server` to test, which can decode them.
#[test]
fn v1_packed_has_an_index_and_a_working_set() {
    let image = ImageDir::open(&golden("v1/packed")).expect("the golden is there");
    assert_eq!(image.part_names().expect("they can be listed"), ["memory-pack", "state", "working-set"]);
    assert!(!image.has_memory());
    let (image_id, index) = (samples::manifest().image_id, samples::memory_index());
    let set = image.working_set(image_id, index.file_pages()).expect("the golden is intact");
    assert_eq!(set.as_ref(), Some(&samples::working_set()));
    let bytes = std::fs::read(golden("v1/packed/working-set")).expect("the golden is there");
    assert_eq!(samples::working_set().encode(), bytes, "this build writes the same bytes");

    let mut file = image.part("memory-pack").expect("it can be opened").expect("the golden is there");
    let pack = PackIndex::read(&file).expect("the golden is intact");
    pack.check_image(image_id, index.file_pages()).expect("it is of this image");
    assert_eq!(pack.frames(), 1);
    let frame = pack.frame(0);
    assert_eq!(frame.coding, Coding::Zstd);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("it can be read");
    frame.check(&bytes[frame.offset as usize..]).expect("the frame is intact");
}
