use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use snapshot_format::codec::Blob;
use snapshot_format::state::{VirtioBlkState, VirtioNetState, VirtioVsockState};
use tempfile::TempDir;

use super::super::blk;
use super::*;
use crate::config::{DeviceOverrides, DiskId, PathTrust};

fn blob(path: &Path) -> Blob {
    Blob(path.as_os_str().as_bytes().to_vec())
}

/// An image's record of the file at `path`, right in all that is checked.
fn disk(path: &Path) -> VirtioBlkState {
    let about = fs::metadata(path).unwrap();
    VirtioBlkState {
        path: blob(path),
        len: about.len(),
        modified_ns: about.mtime() * 1_000_000_000 + about.mtime_nsec(),
        ..VirtioBlkState::default()
    }
}

fn with_disk(disk: VirtioBlkState) -> VirtioSetState {
    VirtioSetState { disks: BTreeMap::from([("root".to_owned(), disk)]), ..VirtioSetState::default() }
}

fn trusting(trust: PathTrust) -> DeviceOverrides {
    DeviceOverrides { trust, ..DeviceOverrides::default() }
}

fn beneath(root: &Path) -> DeviceOverrides {
    trusting(PathTrust::Beneath(vec![root.to_owned()]))
}

fn opens(state: &VirtioSetState, overrides: &DeviceOverrides) -> Result<(), Error> {
    state.clone().open(BTreeMap::new(), overrides).map(drop)
}

/// A disk that is written, one that is read, and the base of an overlay.
#[test]
fn an_image_s_word_opens_no_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("precious");
    fs::write(&path, [7; 1024]).unwrap();
    for (read_only, overlay) in [(false, false), (true, false), (false, true)] {
        let state = with_disk(VirtioBlkState { read_only, overlay, ..disk(&path) });
        let outside = match opens(&state, &DeviceOverrides::default()) {
            Err(Error::Untrusted { outside }) => outside,
            other => panic!("{other:?}"),
        };
        let writes = !read_only && !overlay;
        assert_eq!(outside, [Outside::Disk { id: "root".to_owned(), path: path.clone(), writes }]);
        opens(&state, &trusting(PathTrust::All)).unwrap();
        opens(&state, &beneath(dir.path())).unwrap();
        let named = DeviceOverrides {
            disks: [(DiskId::new("root").unwrap(), path.clone())].into(),
            ..Default::default()
        };
        opens(&state, &named).unwrap();
    }
}

#[test]
fn a_refused_image_has_taken_nothing() {
    let dir = TempDir::new().unwrap();
    let (path, socket) = (dir.path().join("disk"), dir.path().join("vsock"));
    fs::write(&path, [7; 1024]).unwrap();
    let mut state = with_disk(disk(&path));
    state.nets = BTreeMap::from([(
        "eth0".to_owned(),
        VirtioNetState { tap: "tap0".to_owned(), ..Default::default() },
    )]);
    state.vsock = Some(VirtioVsockState { cid: 3, path: blob(&socket), ..Default::default() });
    let told = match opens(&state, &beneath(dir.path())) {
        Err(error @ Error::Untrusted { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    // A directory of disks is none of sockets.
    let expected = "the image names what is not its own: network interface `eth0` is TAP `tap0`; the vsock device has socket";
    assert!(told.starts_with(expected), "{told}");
    assert!(!socket.exists());
    let held = fs::File::open(&path).unwrap();
    held.try_lock().unwrap();
    assert_eq!(state.outside().len(), 3);
}

#[test]
fn no_way_leads_out_of_a_directory_of_disks() {
    let dir = TempDir::new().unwrap();
    let (root, out) = (dir.path().join("disks"), dir.path().join("out"));
    for made in [&root, &out, &root.join("sub")] {
        fs::create_dir(made).unwrap();
    }
    fs::write(out.join("precious"), [7; 1024]).unwrap();
    fs::write(root.join("disk"), [7; 1024]).unwrap();
    symlink("../out/precious", root.join("link")).unwrap();
    symlink(out.join("precious"), root.join("absolute")).unwrap();
    symlink("../out", root.join("directory")).unwrap();
    symlink("disk", root.join("inside")).unwrap();
    for way in ["link", "absolute", "directory/precious", "sub/../../out/precious"] {
        let state = with_disk(disk(&root.join(way)));
        let error = opens(&state, &beneath(&root)).unwrap_err();
        let Error::Disk { source: blk::Error::LeadsOut { .. }, .. } = error else {
            panic!("{way}: {error:?}")
        };
    }
    for way in ["disk", "inside", "sub/../disk"] {
        opens(&with_disk(disk(&root.join(way))), &beneath(&root)).unwrap();
    }
    for elsewhere in [out.join("precious"), dir.path().join("disks/../out/precious")] {
        let beside = if elsewhere.starts_with(&root) { "LeadsOut" } else { "Untrusted" };
        let error = format!("{:?}", opens(&with_disk(disk(&elsewhere)), &beneath(&root)).unwrap_err());
        assert!(error.contains(beside), "{error}");
    }
    // The directory itself is no disk, and a name that only begins like it is not beneath it.
    let state = with_disk(VirtioBlkState { path: blob(&root), len: 1024, ..Default::default() });
    assert!(matches!(opens(&state, &beneath(&root)), Err(Error::Untrusted { .. })));
    fs::write(dir.path().join("disks2"), [7; 1024]).unwrap();
    let state = with_disk(disk(&dir.path().join("disks2")));
    assert!(matches!(opens(&state, &beneath(&root)), Err(Error::Untrusted { .. })));
}

/// The user may write a directory by a link, and the image's writer by its own name, or the other way round.
#[test]
fn a_directory_of_disks_may_be_named_by_a_link() {
    let dir = TempDir::new().unwrap();
    let (root, link) = (dir.path().join("disks"), dir.path().join("link"));
    fs::create_dir(&root).unwrap();
    symlink("disks", &link).unwrap();
    fs::write(root.join("disk"), [7; 1024]).unwrap();
    opens(&with_disk(disk(&root.join("disk"))), &beneath(&link)).unwrap();
    opens(&with_disk(disk(&link.join("disk"))), &beneath(&link)).unwrap();
}

#[test]
fn what_is_no_disk_is_not_waited_for_beneath_a_directory() {
    let dir = TempDir::new().unwrap();
    let made = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
    assert!(made.success());
    fs::create_dir(dir.path().join("directory")).unwrap();
    for name in ["pipe", "directory"] {
        for read_only in [true, false] {
            let path = blob(&dir.path().join(name));
            let state = with_disk(VirtioBlkState { path, len: 1024, read_only, ..Default::default() });
            let error = opens(&state, &beneath(dir.path())).unwrap_err();
            let Error::Disk { source: blk::Error::Kind { .. }, .. } = error else {
                panic!("{name}: {error:?}")
            };
        }
    }
}

#[test]
fn what_is_to_be_pasted_is_one_word() {
    let disk = |path: &str| Outside::Disk { id: "root".to_owned(), path: PathBuf::from(path), writes: true };
    assert_eq!(disk("/srv/a.img").option(), "--disk root=/srv/a.img");
    assert_eq!(disk("/srv/a; reboot").option(), "--disk 'root=/srv/a; reboot'");
    assert_eq!(disk("/srv/$(reboot)'").option(), r"--disk 'root=/srv/$(reboot)'\'''");
    let tap = Outside::Tap { id: "eth0".to_owned(), tap: "tap0".to_owned() };
    assert_eq!(tap.option(), "--net eth0=tap:tap0");
    let forged = disk("/srv/a\nhint: it's fine");
    assert_eq!(forged.option(), r"--disk $'root=/srv/a\x0ahint: it\'s fine'");
    assert!(!forged.to_string().contains('\n'), "{forged}");
    assert_eq!(Outside::Vsock { path: "/run/v".into() }.option(), "--vsock uds=/run/v");
}
