//! Requests with a clock on each: from just before a request is made to the answer being seen. Polled, so that what is
//! measured is the device and not this processor's interrupts.

use super::Dice;
use crate::clock;
use crate::memory::read_volatile;
use crate::text::Text;
use crate::trap::host_tsc;
use crate::virtio::Problem;
use crate::virtio::area::put;
use crate::virtio::blk::{DEPTH, Disk, Kind, ROOM, SECTOR, Shape};
use crate::virtio::net::Net;
use crate::virtio::vsock::{MOST, News, Vsock};

/// How many requests a run may have.
pub const LONGEST: usize = 4096;
/// The largest request to a disk, in bytes.
pub const LARGEST: u64 = 128 << 10;

/// Times of requests, in ticks of the TSC.
pub struct Samples {
    ticks: [u32; LONGEST],
    count: usize,
    /// When the run began, by both clocks.
    tsc: u64,
    ns: u64,
}

impl Samples {
    pub const fn new() -> Self {
        Self { ticks: [0; LONGEST], count: 0, tsc: 0, ns: 0 }
    }

    fn begin(&mut self) -> Result<(), &'static str> {
        (self.count, self.ns, self.tsc) = (0, clock::now()?, host_tsc());
        Ok(())
    }

    fn add(&mut self, ticks: u64) {
        if let Some(place) = self.ticks.get_mut(self.count) {
            *place = ticks.min(u32::MAX as u64) as u32;
            self.count += 1;
        }
    }

    /// Says how many there are, what all took together, and where the times of single ones lie.
    pub fn end(&mut self, answer: &mut Text) -> Result<(), &'static str> {
        let (ns, ticks) = (clock::now()?.saturating_sub(self.ns), host_tsc().saturating_sub(self.tsc).max(1));
        let samples = self.ticks.get_mut(..self.count).unwrap_or_default();
        sort(samples);
        let at = |percent: usize| {
            let rank = (samples.len() * percent).div_ceil(100).max(1);
            let ticks_of = samples.get(rank - 1).copied().unwrap_or(0);
            (ticks_of as u128 * ns as u128 / ticks as u128) as u64
        };
        let (median, p99) = (at(50), at(99));
        answer.dec(self.count as u64).str(" requests in ").dec(ns).str(" ns, median ").dec(median);
        answer.str(" p99 ").dec(p99);
        Ok(())
    }
}

/// Shell's: core's is larger than all of this.
fn sort(values: &mut [u32]) {
    let mut gap = values.len() / 2;
    while gap > 0 {
        for end in gap..values.len() {
            let mut at = end;
            while at >= gap {
                match values.get(at - gap..=at) {
                    Some([low, .., high]) if low > high => values.swap(at - gap, at),
                    _ => break,
                }
                at -= gap;
            }
        }
        gap /= 2;
    }
}

/// Reads or writes `count` times `bytes` bytes, one after the other or anywhere, `depth` at a time.
pub fn disk(
    disk: &mut Disk,
    samples: &mut Samples,
    kind: Kind,
    in_order: bool,
    (bytes, depth, count): (u64, usize, u64),
) -> Result<(), Problem> {
    let places = disk.sectors() * SECTOR / bytes;
    if places == 0 {
        return Err("the disk is too small");
    }
    let (mut begun, mut done) = (0, 0);
    let mut since = [0; DEPTH];
    let mut dice = Dice::new(count);
    // Larger requests share the buffers: nobody looks at the data.
    let buffers = (DEPTH * ROOM) as u64 / bytes;
    samples.begin()?;
    while done < count {
        while begun < count && disk.outstanding() < depth {
            let Some(request) = disk.free() else { break };
            let place = if in_order { begun } else { dice.below(places) };
            let sector = place.checked_rem(places).unwrap_or(0) * bytes / SECTOR;
            let buffer = (request as u64).checked_rem(buffers).unwrap_or(0) * bytes;
            if let Some(since) = since.get_mut(request) {
                *since = host_tsc();
            }
            disk.begin(request, kind, sector, bytes as u32, Shape::PLAIN, Some(disk.buffer(0) + buffer));
            begun += 1;
        }
        disk.notify();
        while let Some((request, _)) = disk.answered()? {
            disk.be_quiet();
            samples.add(host_tsc().saturating_sub(since.get(request).copied().unwrap_or(0)));
            done += 1;
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// Sends `bytes` bytes to `port` and waits for as many, `count` times.
pub fn vsock(
    vsock: &mut Vsock,
    samples: &mut Samples,
    port: u32,
    (bytes, count): (u64, u64),
) -> Result<(), Problem> {
    vsock.be_quiet();
    vsock.connect(port);
    vsock.notify();
    while !matches!(vsock.news()?, Some(News::Connected)) {
        if vsock.is_closed() {
            return Err("nobody takes the connection");
        }
    }
    samples.begin()?;
    for _ in 0..count {
        while vsock.credit() < bytes || vsock.to_send().is_none() {
            vsock.news()?;
        }
        let since = host_tsc();
        vsock.send_data(bytes.min(MOST));
        vsock.notify();
        let mut missing = bytes;
        while missing > 0 {
            match vsock.news()? {
                Some(News::Data(_, bytes)) => {
                    missing = missing.saturating_sub(bytes);
                    vsock.be_quiet();
                    vsock.notify();
                }
                Some(News::Reset | News::TransportReset) => return Err("the connection was reset"),
                _ => {}
            }
        }
        samples.add(host_tsc().saturating_sub(since));
    }
    vsock.close();
    vsock.notify();
    while vsock.outstanding() > 0 {
        vsock.news()?;
    }
    Ok(())
}

/// Bytes of an ARP packet for IPv4 with its Ethernet header (RFC 826).
const ARP: u64 = 42;

/// Asks who has the address `ip`, and waits for the answer, `count` times.
pub fn arp(net: &mut Net, samples: &mut Samples, ip: u32, count: u64) -> Result<(), Problem> {
    let (mac, at) = (net.mac(), net.to_send());
    let mac_at = |offset: u64, mac: u64| (0..6).for_each(|n| put(at + offset + n, (mac >> (8 * n)) as u8));
    let word_at = |offset: u64, word: u16| put(at + offset, word.to_be());
    mac_at(0, u64::MAX);
    mac_at(6, mac);
    // Ethernet type; hardware and protocol, their address lengths; a request.
    for (offset, word) in [(12, 0x0806), (14, 1), (16, 0x0800), (18, 0x0604), (20, 1)] {
        word_at(offset, word);
    }
    mac_at(22, mac);
    // From the neighbouring address, to nobody known.
    let own = ip ^ 3;
    for (offset, ip) in [(28, own), (38, ip)] {
        word_at(offset, (ip >> 16) as u16);
        word_at(offset + 2, ip as u16);
    }
    mac_at(32, 0);
    samples.begin()?;
    for _ in 0..count {
        let since = host_tsc();
        net.send(ARP)?;
        loop {
            let Some((frame, bytes)) = net.receive()? else { continue };
            let word = |offset: u64| u16::from_be(read_volatile::<u16>(frame + offset));
            let from = || (word(28) as u32) << 16 | word(30) as u32;
            if bytes >= ARP && (word(12), word(20)) == (0x0806, 2) && from() == ip {
                break;
            }
        }
        samples.add(host_tsc().saturating_sub(since));
    }
    Ok(())
}
