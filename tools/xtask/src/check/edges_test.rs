//! A workspace like ours, with one wrong edge at a time.

use super::*;

fn metadata(package: &str, dependency: &str, kind: Option<&str>, optional: bool) -> Metadata {
    let dependency = Dependency { name: dependency.to_owned(), kind: kind.map(str::to_owned), optional };
    let places = [
        ("snapshot-format", "snapshot-format"),
        ("vmm", "vmm"),
        ("page-server", "page-server"),
        ("rekindle-tests", "tests"),
        ("rekindle-benches", "benches"),
        ("xtask", "tools/xtask"),
    ];
    let mut packages: Vec<Package> = places
        .map(|(name, place)| Package {
            name: name.to_owned(),
            manifest_path: format!("/srv/tests/{place}/Cargo.toml").into(),
            dependencies: Vec::new(),
        })
        .into();
    let at = packages.iter().position(|p| p.name == package).unwrap();
    packages[at].dependencies.push(dependency);
    Metadata { workspace_root: "/srv/tests".into(), packages }
}

fn is_refused(package: &str, dependency: &str, kind: Option<&str>, optional: bool) -> bool {
    !violations(&metadata(package, dependency, kind, optional)).is_empty()
}

#[test]
fn the_format_knows_nothing_of_machines() {
    for name in ["kvm-bindings", "kvm-ioctls", "vm-memory", "libc", "tokio", "clap", "vmm"] {
        assert!(is_refused("snapshot-format", name, None, false), "{name}");
    }
    assert!(!is_refused("snapshot-format", "crc64", None, false));
    assert!(!is_refused("snapshot-format", "libc", Some("dev"), false));
}

#[test]
fn the_page_server_stands_alone() {
    assert!(is_refused("page-server", "vmm", None, false));
    assert!(is_refused("page-server", "kvm-ioctls", Some("dev"), false));
    assert!(!is_refused("page-server", "snapshot-format", None, false));
}

#[test]
fn the_vmm_library_leaves_the_command_line_to_its_feature() {
    assert!(is_refused("vmm", "clap", None, false));
    assert!(is_refused("vmm", "page-server", None, false));
    assert!(!is_refused("vmm", "anyhow", None, true));
    assert!(!is_refused("vmm", "snapshot-format", None, false));
}

#[test]
fn nobody_builds_on_tests_benches_or_tools() {
    assert!(is_refused("vmm", "rekindle-tests", Some("dev"), false));
    assert!(is_refused("rekindle-benches", "xtask", None, false));
    assert!(is_refused("rekindle-tests", "rekindle-benches", None, false));
    assert!(!is_refused("rekindle-tests", "vmm", None, false));
}
