//! A bzImage of two setup sectors with a payload of five bytes.

use super::*;

fn bz_image() -> Vec<u8> {
    let mut image = vec![0; 3 * 512 + 16];
    image[0x1f1] = 2;
    image[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
    image[0x248] = 8;
    image[0x24c] = 5;
    image.truncate(3 * 512 + 8);
    image.extend(b"inner, and what follows");
    image
}

#[test]
fn the_payload_is_where_the_header_says() {
    assert_eq!(payload(&bz_image()), Some(&b"inner"[..]));
}

#[test]
fn what_is_no_bz_image_has_none() {
    let mut image = bz_image();
    image[0x24c..0x250].fill(0xff);
    assert_eq!(payload(&image), None);
    let mut image = bz_image();
    image[0x202] = b'X';
    assert_eq!(payload(&image), None);
    assert_eq!(payload(&bz_image()[..0x100]), None);
}
