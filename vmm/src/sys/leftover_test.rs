use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;

fn identity(path: &Path) -> (u64, u64) {
    let about = fs::symlink_metadata(path).unwrap();
    (about.dev(), about.ino())
}

#[test]
fn listed_files_go_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["listed", "taken-off", "another"] {
        fs::write(path(name), name).unwrap();
    }
    let _listed = list(&path("listed"), identity(&path("listed")));
    drop(list(&path("taken-off"), identity(&path("taken-off"))));
    // Somebody else's file by now.
    let (device, inode) = identity(&path("another"));
    let _another = list(&path("another"), (device, inode + 1));
    remove_all();
    let left = ["listed", "taken-off", "another"].map(|name| path(name).exists());
    assert_eq!(left, [false, true, true]);
}
