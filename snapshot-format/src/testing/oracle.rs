//! What must hold of any bytes at all.

use crate::error::Error;
use crate::handoff::{self, FromServer, Handshake};
use crate::pages::pack::Coding;
use crate::pages::{self, MemoryIndex, PackIndex, PageCount};
use crate::section::Kind;
use crate::state::{
    AcpiPmState, ChipsetState, ClockState, HostCheckState, I8042State, IdentityState, ManifestState,
    MemoryState, OverlayState, PvpanicState, ReadyPortState, RtcState, SerialState, VcpuState,
    VirtioBalloonState, VirtioBlkState, VirtioNetState, VirtioRngState, VirtioVsockState,
};
use crate::state_file::{StateReader, StateWriter};
use crate::{Saved, WorkingSet, codec};

/// Takes every section of `file` and writes them all to a new file.
///
/// While every kind has one version the encoding has no freedom: what is accepted must be written back bit for bit.
pub fn rewrite(file: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = StateReader::parse(file)?;
    let mut writer = StateWriter::new(reader.header().architecture);
    let names: Vec<String> = reader.sections().iter().map(|entry| entry.name.clone()).collect();
    for name in &names {
        // A section of an unknown kind stays, and `finish` reports it.
        match Kind::of(name).map(|kind| kind.name) {
            Some("manifest") => copy::<ManifestState>(name, &mut reader, &mut writer)?,
            Some("host-check") => copy::<HostCheckState>(name, &mut reader, &mut writer)?,
            Some("memory") => copy::<MemoryState>(name, &mut reader, &mut writer)?,
            Some("clock") => copy::<ClockState>(name, &mut reader, &mut writer)?,
            Some("chipset") => copy::<ChipsetState>(name, &mut reader, &mut writer)?,
            Some("vcpu") => copy::<VcpuState>(name, &mut reader, &mut writer)?,
            Some("serial") => copy::<SerialState>(name, &mut reader, &mut writer)?,
            Some("i8042") => copy::<I8042State>(name, &mut reader, &mut writer)?,
            Some("rtc") => copy::<RtcState>(name, &mut reader, &mut writer)?,
            Some("acpi-pm") => copy::<AcpiPmState>(name, &mut reader, &mut writer)?,
            Some("ready-port") => copy::<ReadyPortState>(name, &mut reader, &mut writer)?,
            Some("pvpanic") => copy::<PvpanicState>(name, &mut reader, &mut writer)?,
            Some("identity") => copy::<IdentityState>(name, &mut reader, &mut writer)?,
            Some("virtio-rng") => copy::<VirtioRngState>(name, &mut reader, &mut writer)?,
            Some("virtio-balloon") => copy::<VirtioBalloonState>(name, &mut reader, &mut writer)?,
            Some("virtio-blk") => copy::<VirtioBlkState>(name, &mut reader, &mut writer)?,
            Some("virtio-vsock") => copy::<VirtioVsockState>(name, &mut reader, &mut writer)?,
            Some("virtio-net") => copy::<VirtioNetState>(name, &mut reader, &mut writer)?,
            Some("overlay") => copy::<OverlayState>(name, &mut reader, &mut writer)?,
            Some(kind) => panic!("kind `{kind}` is in KINDS and not here"),
            None => {}
        }
    }
    reader.finish()?;
    writer.finish()
}

fn copy<T: Saved>(name: &str, reader: &mut StateReader<'_>, writer: &mut StateWriter) -> Result<(), Error> {
    writer.add(name, &reader.take::<T>(name)?)
}

/// Decodes `bytes` as section `memory` and checks the index, if they are one.
///
/// # Panics
/// An index was accepted that does not say what the bytes say, or whose numbers do not make sense.
pub fn check_index(bytes: &[u8]) -> Option<MemoryIndex> {
    let state: MemoryState =
        codec::decode(bytes, MemoryState::KIND.current, <MemoryState as Saved>::PARTS).ok()?;
    let index = MemoryIndex::try_from(state.clone()).ok()?;
    assert_eq!(index.to_state(), state);
    let mut guest_end = 0;
    let mut file_end = 0;
    for region in index.regions() {
        assert!(region.guest().get() >= guest_end && region.offset().get() >= file_end);
        (guest_end, file_end) = (region.guest_end(), region.file_end());
    }
    assert!(guest_end <= pages::MAX_GUEST_ADDRESS && file_end <= index.file_pages().bytes());
    assert!(index.guest_bytes() <= index.file_pages().bytes());
    Some(index)
}

/// Takes `bytes` for a working set of the image that they name, with the largest memory file there is, and checks it if
/// they are one.
///
/// # Panics
/// A working set was accepted that is written in another way, or that has a page twice or beyond the file.
pub fn check_working_set(bytes: &[u8]) -> Option<WorkingSet> {
    let image_id = *bytes.get(16..)?.first_chunk()?;
    let file_pages = PageCount::from_bytes(pages::MAX_MEMORY_BYTES).expect("the bound itself");
    let set = WorkingSet::parse(bytes, image_id, file_pages).ok()?;
    assert_eq!(set.encode(), bytes);
    let mut runs = set.runs().to_vec();
    runs.sort_by_key(|run| run.first);
    let mut free = 0;
    for run in &runs {
        assert!(run.pages > 0 && run.first >= free, "page {} twice", run.first);
        free = run.first + run.pages;
    }
    assert!(free <= file_pages.get() && set.written_pages() <= set.pages());
    Some(set)
}

/// Takes `bytes` for the beginning of a pack that is as long as they say, and checks the index if there is one.
///
/// # Panics
/// An index was accepted that is written in another way, or whose frames do not lie one behind the other to the end.
pub fn check_pack(bytes: &[u8]) -> Option<PackIndex> {
    let pack_len = u64::from_le_bytes(*bytes.get(48..)?.first_chunk()?);
    let index = PackIndex::parse(bytes, pack_len).ok()?;
    let encoded = index.encode();
    assert!(bytes.starts_with(&encoded));
    let (mut offset, mut memory) = (encoded.len() as u64, 0);
    for number in 0..index.frames() {
        let frame = index.frame(number);
        assert!(frame.offset == offset && frame.len <= frame.memory_bytes);
        assert_eq!(frame.len == 0, frame.coding == Coding::Zero);
        offset += frame.len as u64;
        memory += frame.memory_bytes as u64;
    }
    assert_eq!((offset, memory), (pack_len, index.file_pages().bytes()));
    Some(index)
}

/// Whatever is taken for a handshake can be acted on: its regions are whole pages, end somewhere, and lie apart, and it
/// reads the same once more.
pub fn check_handoff(bytes: &[u8]) {
    if let Ok(said) = FromServer::parse(bytes) {
        let line = said.encode();
        assert!(line.len() <= handoff::MAX_LINE_BYTES, "a line is short");
        assert!(FromServer::parse(line.trim_ascii_end()).is_ok(), "what is said is understood");
    }
    let Ok(handshake) = Handshake::parse(bytes) else { return };
    assert!((1..=handoff::MAX_MAPPINGS).contains(&handshake.mappings.len()), "there are a few regions");
    for (number, mapping) in handshake.mappings.iter().enumerate() {
        assert!(handoff::PAGE_SIZES.contains(&mapping.page_bytes), "pages have a size that there is");
        for start in [mapping.address, mapping.offset] {
            assert!(start.checked_add(mapping.len).is_some(), "a region ends somewhere");
            assert!(start.is_multiple_of(mapping.page_bytes), "a region begins with a page");
        }
        for other in &handshake.mappings[..number] {
            let apart = |a: u64, b: u64| a + mapping.len <= b || b + other.len <= a;
            assert!(apart(mapping.address, other.address), "two regions share addresses");
            assert!(apart(mapping.offset, other.offset), "two regions share bytes");
        }
    }
    if let Ok(again) = handshake.encode() {
        assert_eq!(Handshake::parse(&again).ok(), Some(handshake), "a handshake reads the same once more");
    }
}
