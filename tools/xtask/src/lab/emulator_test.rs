//! Versions as QEMU prints them.

use super::*;

#[test]
fn versions_are_read_and_compared() {
    let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003-2022\n";
    assert_eq!(Version::of(debian), Some(Version(7, 2)));
    assert!(Version(10, 0) < Version::GOOD);
    let own = Version::of("QEMU emulator version 11.2.50\n").unwrap();
    assert!(own >= Version::GOOD);
    assert_eq!(own.to_string(), "11.2");
    assert_eq!(Version::of("qemu-system-x86_64: error while loading shared libraries"), None);
    assert_eq!(Version::of("QEMU emulator version ten"), None);
}

#[test]
fn a_directory_is_whole_when_every_file_is_what_was_put_there() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!is_whole(dir.path()));
    let program = dir.path().join(PROGRAM);
    fs::write(&program, "an emulator").unwrap();
    let write = |packages: Vec<String>, pinned| {
        let files = vec![Checksum { path: PROGRAM.into(), sha256: sha256(&program).unwrap() }];
        let text = serde_json::to_vec(&Manifest { packages, pinned, files }).unwrap();
        fs::write(dir.path().join("manifest.json"), text).unwrap();
    };
    write(SOURCES.map(|source| titled(source.name, source.version)).into(), true);
    assert!(is_whole(dir.path()));
    // An older pin is replaced; what stands in for one that is gone is not.
    write(vec!["qemu-system-x86 1:9".into()], true);
    assert!(!is_whole(dir.path()));
    write(vec!["qemu-system-x86 1:12".into()], false);
    assert!(is_whole(dir.path()));
    fs::write(&program, "half an emula").unwrap();
    assert!(!is_whole(dir.path()));
}

#[test]
fn the_libraries_of_a_program_are_those_that_were_unpacked() {
    let listed = "\tlinux-vdso.so.1 (0x00007f71)\n\
                  \tlibz.so.1 => /unpacked/lib/libz.so.1 (0x00007f72)\n\
                  \tlibc.so.6 => /lib/libc.so.6 (0x00007f73)\n\
                  \t/lib64/ld-linux-x86-64.so.2 => /unpacked/lib/ld-linux-x86-64.so.2 (0x00007f74)\n";
    assert_eq!(loaded(listed, Path::new("/unpacked/lib")), [PathBuf::from("/unpacked/lib/libz.so.1")]);
}
