//! Which packages a kernel is made of.

use super::*;

#[test]
fn a_kernel_in_one_package_and_one_in_four_are_found() {
    let old = "linux-image-6.12.117+deb13-amd64 (= 6.12.117-1)";
    assert_eq!(kernel_package(old).as_deref(), Some("linux-image-6.12.117+deb13-amd64"));
    let new =
        "linux-base-amd64 (= 7.3.4-1), linux-image-7.3.4-amd64 (= 7.3.4-1), linux-modules-amd64 (= 7.3.4-1)";
    assert_eq!(kernel_package(new).as_deref(), Some("linux-image-7.3.4-amd64"));
    assert_eq!(kernel_package("linux-base-amd64"), None);
    let of_image = "dracut | initramfs-tools (>= 0.120), linux-base-7.3.4-amd64 (= 7.3.4-1), \
                    linux-binary-7.3.4-amd64 (= 7.3.4-1), linux-modules-7.3.4-amd64 (= 7.3.4-1)";
    let parts = ["linux-base-7.3.4-amd64", "linux-binary-7.3.4-amd64", "linux-modules-7.3.4-amd64"];
    assert_eq!(parts_among(of_image, "7.3.4-amd64"), parts);
    assert_eq!(parts_among("kmod, linux-base (>= 4.3~), initramfs-tools", "6.1.0-50-amd64"), [""; 0]);
}
