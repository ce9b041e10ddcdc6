use std::os::unix::fs::MetadataExt;

use super::*;
use crate::socket::Socket;

#[test]
fn a_socket_is_made_for_whoever_may_connect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pages");
    for mode in [0o600, 0o660, 0o666, 0o620] {
        let group = Some(rustix::process::getgid().as_raw());
        let socket = Socket::bind_for(&path, Access { mode, group }).unwrap();
        let about = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!((about.mode() & 0o7777, Some(about.gid())), (mode, group), "{mode:o}");
        drop(socket);
    }
}

#[test]
fn a_group_has_a_number_or_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let groups = dir.path().join("group");
    std::fs::write(&groups, "root:x:0:\nkvm:x:104:me,you\nbroken\nodd:x:no:\nall:x:4294967295:\n").unwrap();
    assert_eq!(group("kvm", &groups).unwrap(), 104);
    assert_eq!(group("1234", &groups).unwrap(), 1234);
    for none in ["me", "broken", "odd", ""] {
        assert_eq!(group(none, &groups).unwrap_err().kind(), io::ErrorKind::NotFound, "{none}");
    }
    for unchanged in ["4294967295", "all"] {
        let error = group(unchanged, &groups).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{unchanged}");
    }
}
