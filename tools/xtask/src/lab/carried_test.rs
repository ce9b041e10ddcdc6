//! A program of this system, and what it is loaded with.

use super::*;

#[test]
fn a_program_comes_with_its_libraries() {
    let mut archive = Initramfs::default();
    add(&mut archive, Path::new("/usr/bin/env")).unwrap();
    for path in ["usr/bin/env", "lib64/ld-linux-x86-64.so.2"] {
        assert!(archive.has(Path::new(path)), "{path}");
    }
    let listed = process::output(Command::new(LOADER).args(["--list", "/usr/bin/env"])).unwrap();
    let libraries = libraries(&listed);
    assert!(libraries.iter().any(|path| path.ends_with("libc.so.6")), "{listed}");
    assert!(libraries.iter().all(|path| archive.has(path.strip_prefix("/").unwrap())));
}

#[test]
fn a_directory_comes_with_all_its_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("inner")).unwrap();
    fs::write(dir.path().join("inner/file"), "x").unwrap();
    let mut archive = Initramfs::default();
    add(&mut archive, dir.path()).unwrap();
    assert!(archive.has(dir.path().join("inner/file").strip_prefix("/").unwrap()));
    assert!(add(&mut archive, &dir.path().join("absent")).is_err());
}
