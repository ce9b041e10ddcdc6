//! Values as they are typed.

#[cfg(test)]
#[path = "value_test.rs"]
mod value_test;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::catalogue::Place;

/// A size in bytes, or with K, M or G; at least 1 MiB.
pub(super) fn size(text: &str) -> Result<u64, String> {
    bytes(text)
        .filter(|bytes| *bytes >= 1 << 20)
        .ok_or_else(|| "a size such as 256M or 2G, at least 1M".to_owned())
}

/// A socket, and perhaps the image that is served there.
pub(super) fn place(text: &str) -> Result<Place, String> {
    match text.split_once('=') {
        Some((socket, image)) if !socket.is_empty() && !image.is_empty() => {
            Ok(Place { socket: socket.into(), image: Some(image.into()) })
        }
        None if !text.is_empty() => Ok(Place { socket: text.into(), image: None }),
        _ => Err("PATH, or PATH=IMAGE".to_owned()),
    }
}

/// What is delivered for a fault.
pub(super) fn grain(text: &str) -> Result<u64, String> {
    let fits = |bytes: &u64| bytes.is_power_of_two() && (4096..=2 << 20).contains(bytes);
    bytes(text).filter(fits).ok_or_else(|| "a power of two from 4K to 2M".to_owned())
}

/// A time such as `50us`, `10s` or `2m`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a time such as 50us, 200ms, 10s or 2m".to_owned())
}

/// How long to look for faults.
pub(super) fn poll(text: &str) -> Result<Duration, String> {
    within(text, Duration::ZERO, Duration::from_millis(10))
}

/// How often to look at a server.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(100), Duration::from_secs(3600))
}

/// Permissions, in octal.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = digits.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    mode.filter(|mode| *mode <= 0o777).ok_or_else(|| "permissions in octal, such as 0660".to_owned())
}

/// A port of the loopback address, or an address with a port.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse::<u16>().map(|port| (Ipv4Addr::LOCALHOST, port).into());
    port.or_else(|_| text.parse())
        .map_err(|_| "a port, or an address with a port, such as 9100 or [::1]:9100".to_owned())
}

fn within(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = time(text)?;
    if (least..=most).contains(&time) { Ok(time) } else { Err(format!("from {least:?} to {most:?}")) }
}

fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok())??;
    number.checked_mul(1 << shift)
}
