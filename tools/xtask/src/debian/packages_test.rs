//! Names in the fields of packages.

use super::*;

#[test]
fn the_needs_of_a_package_are_names() {
    let depends = "libaio1 (>= 0.3.93), libc6 (>= 2.34), python3:any | python3-minimal, ipxe-qemu\n";
    assert_eq!(needed(depends), ["libaio1", "libc6", "python3", "ipxe-qemu"]);
    assert!(needed("").is_empty());
}
