//! The archive, read back by the crate's own reader.

use std::io::Read as _;

use super::*;

fn read_back(archive: &Initramfs) -> Vec<(String, u32, Vec<u8>)> {
    let mut bytes = Vec::new();
    archive.write(&mut bytes).unwrap();
    let (mut rest, mut found) = (bytes.as_slice(), Vec::new());
    loop {
        let mut reader = newc::Reader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            return found;
        }
        let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        rest = reader.finish().unwrap();
        found.push((name, mode, content));
    }
}

#[test]
fn directories_precede_what_lies_in_them() {
    let mut archive = Initramfs::default();
    archive.file("a/b/tool", 0o755, "x");
    archive.symlink("a/link", "b/tool");
    let expected = [
        ("a".to_owned(), 0o040_755, vec![]),
        ("a/b".to_owned(), 0o040_755, vec![]),
        ("a/b/tool".to_owned(), 0o100_755, b"x".to_vec()),
        ("a/link".to_owned(), 0o120_777, b"b/tool".to_vec()),
    ];
    assert_eq!(read_back(&archive), expected);
}

#[test]
fn a_script_names_its_modules_on_one_line() {
    assert_eq!(modules_of("#!/bin/sh\n# modules: virtio_blk button\nexit\n"), ["virtio_blk", "button"]);
    assert_eq!(modules_of("#!/bin/sh\nexit\n"), Vec::<&str>::new());
}
