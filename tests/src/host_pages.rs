//! What the host's kernel does to the pages of a process by itself, brought about on purpose: merging and splitting.

use std::fs::{self, File};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::{patience, sys};

const KSM: &str = "/sys/kernel/mm/ksm";
/// Bytes of a huge page.
const HUGE: usize = 2 << 20;

/// A running KSM that puts the kernel's zero page in the place of pages of zeros. Dropped, it is as it was. One process at a
/// time has it.
pub struct Merging {
    /// Settings, as they were.
    before: Vec<(String, String)>,
    _lock: File,
}

impl Merging {
    /// `None` where there is none, or we may not change it.
    pub fn start() -> Option<Self> {
        let lock = File::open(format!("{KSM}/run")).ok()?;
        flock(&lock, FlockOperation::LockExclusive).ok()?;
        let mut here = Self { before: Vec::new(), _lock: lock };
        for (name, value) in
            [("use_zero_pages", "1"), ("pages_to_scan", "20000"), ("sleep_millisecs", "1"), ("run", "1")]
        {
            let path = format!("{KSM}/{name}");
            let before = fs::read_to_string(&path).ok()?;
            fs::write(&path, value).ok()?;
            here.before.push((path, before));
        }
        Some(here)
    }

    /// Why a program that is started cannot have its pages merged.
    pub(crate) fn missing() -> Option<String> {
        let setting = format!("{KSM}/use_zero_pages");
        if let Err(error) = File::options().write(true).open(setting) {
            return Some(format!("needs root and KSM with use_zero_pages: {error}"));
        }
        // Before, a program that is executed loses what its parent was allowed.
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers =
            release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        (version < (6, 10)).then(|| "KSM of whole programs needs Linux 6.10".to_owned())
    }

    /// Waits until so many pages of process `pid` are the kernel's zero page.
    #[track_caller]
    pub fn wait_for_zero_pages(&self, pid: u32, pages: u64) {
        let merged = || zero_pages(pid).filter(|merged| *merged >= pages);
        let done = patience::until(Duration::from_secs(180), merged);
        assert!(done.is_some(), "{:?} of {pages} pages were merged", zero_pages(pid));
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        for (path, before) in self.before.iter().rev() {
            // Fails only where it could not be changed.
            let _ = fs::write(path, before.trim());
        }
    }
}

fn zero_pages(pid: u32) -> Option<u64> {
    let about = fs::read_to_string(format!("/proc/{pid}/ksm_stat")).ok()?;
    about.lines().find_map(|line| line.strip_prefix("ksm_zero_pages"))?.trim().parse().ok()
}

/// Bytes of anonymous memory of process `pid` that are in huge pages, with the addresses that they may be at.
pub fn huge_pages(pid: u32) -> (u64, Vec<usize>) {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let (mut range, mut bytes, mut places) = (0..0, 0, Vec::new());
    for line in maps.lines() {
        let word = line.split_ascii_whitespace().next().unwrap_or_default();
        if let Some((start, end)) = word.split_once('-') {
            let address = |text| usize::from_str_radix(text, 16).unwrap_or(0);
            range = address(start)..address(end);
        } else if let Some(kib) = line.strip_prefix("AnonHugePages:") {
            let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            if kib > 0 {
                bytes += kib << 10;
                places.extend((range.start.next_multiple_of(HUGE)..range.end).step_by(HUGE));
            }
        }
    }
    (bytes, places)
}

/// Why the host gives nobody huge pages.
pub(crate) fn no_huge_pages() -> Option<String> {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let is_on = ["[always]", "[madvise]"].iter().any(|word| setting.contains(word));
    (!is_on).then(|| "transparent huge pages are off".to_owned())
}

/// Splits every huge page of process `pid`.
#[track_caller]
pub fn split_huge_pages(pid: u32) {
    let (_, places) = huge_pages(pid);
    sys::cool(pid, &places).expect("a child's memory may be advised on");
}
