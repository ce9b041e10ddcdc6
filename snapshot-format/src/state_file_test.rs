use super::{StateReader, StateWriter};
use crate::codec::Part;
use crate::codec::prelude::*;
use crate::header::HEADER_BYTES;
use crate::section::{ENTRY_BYTES, KINDS, Kind, MAX_SECTIONS, Saved};
use crate::state::{HostCheckState, PvpanicState, RtcState, SerialState, VcpuState};
use crate::testing::{oracle, reseal, samples};
use crate::{Architecture, Error, ErrorKind};

/// A file with the sections `name`, all of kind `serial`.
fn serials(names: &[&str]) -> Vec<u8> {
    let mut writer = StateWriter::new(Architecture::X86_64);
    for name in names {
        writer.add(name, &samples::serial()).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn sections_come_back_by_name_in_any_order() {
    let file = samples::state_file().unwrap();
    let mut reader = StateReader::parse(&file).unwrap();
    assert!(reader.contains("vcpu:1") && !reader.contains("vcpu:2"));
    assert_eq!(reader.take::<VcpuState>("vcpu:1").unwrap(), samples::vcpu(1));
    assert_eq!(reader.take::<VcpuState>("vcpu:0").unwrap(), samples::vcpu(0));
    assert_eq!(reader.take::<RtcState>("rtc").unwrap(), samples::rtc());
}

#[test]
fn any_flipped_byte_is_an_error() {
    let good = samples::state_file().unwrap();
    for at in 0..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut file = good.clone();
            file[at] ^= flip;
            let kind = StateReader::parse(&file).unwrap_err().kind();
            let expected = if at < 8 { ErrorKind::NotAnImage } else { ErrorKind::Damaged };
            assert_eq!(kind, expected, "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn any_truncation_is_an_error_even_if_it_was_sealed_again() {
    let good = samples::state_file().unwrap();
    for len in 0..good.len() {
        let mut file = good[..len].to_vec();
        let expected = if len == 0 { ErrorKind::NotAnImage } else { ErrorKind::Damaged };
        assert_eq!(StateReader::parse(&file).unwrap_err().kind(), expected, "{len} bytes");
        reseal::length_and_checksum_of(&mut file);
        assert_eq!(StateReader::parse(&file).unwrap_err().kind(), expected, "{len} bytes, sealed");
    }
    let mut longer = [&good[..], &[0]].concat();
    assert_eq!(StateReader::parse(&longer).unwrap_err().kind(), ErrorKind::Damaged);
    reseal::length_and_checksum_of(&mut longer);
    assert_eq!(StateReader::parse(&longer).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn a_section_that_is_not_there_is_missing() {
    let file = serials(&["serial:0"]);
    let error = StateReader::parse(&file).unwrap().take::<RtcState>("rtc").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingSection);
    assert_eq!(error.to_string(), "section `rtc` is missing");
}

#[test]
fn a_section_that_nobody_takes_is_unknown() {
    let file = serials(&["serial:0", "serial:1"]);
    let mut reader = StateReader::parse(&file).unwrap();
    reader.take::<SerialState>("serial:0").unwrap();
    let error = reader.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownSection);
    assert_eq!(error.to_string(), "nothing in this build claims section `serial:1` (saved by version 1)");
}

#[test]
fn names_are_refused_on_both_sides() {
    let file = serials(&["serial:0"]);
    for bad in ["", "serial", "serial:", "rtc", "serial:0:0", "serial:/", "i8042"] {
        let mut writer = StateWriter::new(Architecture::X86_64);
        let error = writer.add(bad, &samples::serial()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{bad}");
        let error = StateReader::parse(&file).unwrap().take::<SerialState>(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{bad}");
    }
}

#[test]
fn a_name_serves_once_on_both_sides() {
    let mut writer = StateWriter::new(Architecture::X86_64);
    writer.add("serial:0", &samples::serial()).unwrap();
    assert_eq!(writer.add("serial:0", &samples::serial()).unwrap_err().kind(), ErrorKind::Refused);

    let file = writer.finish().unwrap();
    let mut reader = StateReader::parse(&file).unwrap();
    reader.take::<SerialState>("serial:0").unwrap();
    assert_eq!(reader.take::<SerialState>("serial:0").unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn the_writer_obeys_the_bounds_of_the_reader() {
    let names: Vec<String> = (0..=MAX_SECTIONS).map(|n| format!("serial:{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let file = serials(&names[..MAX_SECTIONS]);
    assert_eq!(StateReader::parse(&file).unwrap().sections().len(), MAX_SECTIONS);
    let mut writer = StateWriter::new(Architecture::X86_64);
    let added = names.iter().try_for_each(|name| writer.add(name, &samples::serial()));
    assert!(matches!(added, Err(Error::TooManySections { count: 513, .. })));

    // 64 blobs of 1 MiB each are legal one by one, and too many together.
    let mut writer = StateWriter::new(Architecture::X86_64);
    let vcpu = VcpuState { xsave: Blob(vec![0; Blob::MAX]), ..VcpuState::default() };
    (0..64).for_each(|n| writer.add(&format!("vcpu:{n}"), &vcpu).unwrap());
    assert!(matches!(writer.finish(), Err(Error::TooLarge { .. })));
    let vcpu = VcpuState { xsave: Blob(vec![0; Blob::MAX + 1]), ..VcpuState::default() };
    let error = StateWriter::new(Architecture::X86_64).add("vcpu:0", &vcpu).unwrap_err();
    assert!(matches!(error, Error::Encode { section, .. } if section == "vcpu:0"));
}

#[test]
fn an_image_without_sections_is_an_image() {
    let file = StateWriter::new(Architecture::X86_64).finish().unwrap();
    let reader = StateReader::parse(&file).unwrap();
    assert!(reader.sections().is_empty());
    reader.finish().unwrap();
}

#[test]
fn every_kind_of_a_newer_version_is_refused_by_name_and_version() {
    let good = samples::state_file().unwrap();
    let names: Vec<String> =
        StateReader::parse(&good).unwrap().sections().iter().map(|entry| entry.name.clone()).collect();
    for (index, name) in names.iter().enumerate() {
        let current = Kind::of(name).unwrap().current;
        let mut file = good.clone();
        let at = HEADER_BYTES + index * ENTRY_BYTES + 32;
        file[at..at + 2].copy_from_slice(&(current + 1).to_le_bytes());
        reseal::checksum_of(&mut file);
        // It can still be listed.
        assert_eq!(StateReader::parse(&file).unwrap().sections()[index].version, current + 1);
        let error = oracle::rewrite(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}");
        let (saved, oldest) = (current + 1, Kind::of(name).unwrap().oldest);
        let expected =
            format!("section `{name}` was saved by version {saved}, this build reads {oldest} to {current}");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn the_sample_has_every_kind_that_every_image_has() {
    let file = samples::state_file().unwrap();
    let reader = StateReader::parse(&file).unwrap();
    for kind in KINDS.iter().filter(|kind| kind.name != HostCheckState::KIND.name) {
        assert!(reader.sections().iter().any(|entry| kind.owns(&entry.name)), "{}", kind.name);
    }
}

#[test]
fn an_image_may_say_where_its_needs_were_met() {
    let mut writer = StateWriter::new(Architecture::X86_64);
    writer.add("host-check", &samples::host_check()).unwrap();
    let file = writer.finish().unwrap();
    assert_eq!(oracle::rewrite(&file).unwrap(), file);
    let mut reader = StateReader::parse(&file).unwrap();
    assert_eq!(reader.take::<HostCheckState>("host-check").unwrap(), samples::host_check());
}

/// What `PvpanicState` might be in a build that reads versions 2 to 4 of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Versionize)]
struct LaterPvpanicState {
    events: u8,
    #[version(start = 3, default_fn = "unknown_count")]
    count: u32,
    #[version(start = 4)]
    last: Vec<u8>,
}

impl LaterPvpanicState {
    fn unknown_count(_saved: u16) -> u32 {
        u32::MAX
    }
}

impl Saved for LaterPvpanicState {
    const KIND: Kind = Kind { name: "pvpanic", many: false, oldest: 2, current: 4 };
    const PARTS: &'static [Part] = &[Part::of::<Self>()];
}

#[test]
fn an_older_section_is_upgraded_while_it_is_taken() {
    let mut writer = StateWriter::new(Architecture::X86_64);
    writer.add("pvpanic", &PvpanicState { events: 3 }).unwrap();
    let mut file = writer.finish().unwrap();
    let mut saved_by = |version: u8| {
        file[HEADER_BYTES + 32] = version;
        reseal::checksum_of(&mut file);
        StateReader::parse(&file).unwrap().take::<LaterPvpanicState>("pvpanic")
    };
    let upgraded = LaterPvpanicState { events: 3, count: u32::MAX, last: Vec::new() };
    assert_eq!(saved_by(2).unwrap(), upgraded);
    // One byte is not all of version 3.
    assert_eq!(saved_by(3).unwrap_err().kind(), ErrorKind::Damaged);
    for refused in [1, 5, 255] {
        let error = saved_by(refused).unwrap_err();
        let expected = format!("section `pvpanic` was saved by version {refused}, this build reads 2 to 4");
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Unsupported, expected));
    }

    let later = LaterPvpanicState { events: 3, count: 4, last: vec![5] };
    let mut writer = StateWriter::new(Architecture::X86_64);
    writer.add("pvpanic", &later).unwrap();
    let file = writer.finish().unwrap();
    assert_eq!(StateReader::parse(&file).unwrap().take::<LaterPvpanicState>("pvpanic").unwrap(), later);
    let error = StateReader::parse(&file).unwrap().take::<PvpanicState>("pvpanic").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_section_with_a_byte_too_few_or_too_many_is_named() {
    for change in [-1_i64, 1] {
        let mut writer = StateWriter::new(Architecture::X86_64);
        writer.add("rtc", &samples::rtc()).unwrap();
        let mut file = writer.finish().unwrap();
        let len = &mut file[HEADER_BYTES + 48];
        *len = len.wrapping_add_signed(change as i8);
        file.resize(file.len().wrapping_add_signed(change as isize), 0);
        reseal::length_and_checksum_of(&mut file);
        let error = StateReader::parse(&file).unwrap().take::<RtcState>("rtc").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert_eq!(error.to_string(), "section `rtc` is damaged (saved by version 1)");
    }
}
