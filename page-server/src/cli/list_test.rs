use std::fs;

use rustix::fs::{CWD, FileType, mknodat};

use super::*;

#[test]
fn a_line_is_an_image_or_a_socket_with_one_or_nothing() {
    let of = |socket: &str, image: &str| {
        Some(Entry::Place(Place { socket: socket.into(), image: Some(image.into()) }))
    };
    assert_eq!(entry(b"/images/a"), Some(Entry::Image("/images/a".into())));
    assert_eq!(entry(b"/run/a.sock=/images/a+diff"), of("/run/a.sock", "/images/a+diff"));
    assert_eq!((entry(b""), entry(b"# /images/a")), (None, None));
}

/// None of them keeps the server waiting, or has it read without an end.
#[test]
fn what_is_no_regular_file_or_too_long_is_no_list() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for path in [&fifo, dir.path(), Path::new("/dev/zero")] {
        assert!(matches!(read(path), Err(Error::NotAFile { .. })), "{}", path.display());
    }
    let list = dir.path().join("list");
    assert!(matches!(read(&list), Err(Error::Read { .. })));
    let longest = usize::try_from(LONGEST).unwrap();
    fs::write(&list, vec![b'\n'; longest]).unwrap();
    assert_eq!(read(&list).unwrap(), []);
    fs::write(&list, vec![b'\n'; longest + 1]).unwrap();
    assert!(matches!(read(&list), Err(Error::TooLong { .. })));
}
