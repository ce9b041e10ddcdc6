//! What a kernel does to pages by itself, done on purpose, for tests: merging, splitting, collapsing and swapping them.
//!
//! Each of these changes the kind of a page and not its bytes. What changes the host's settings holds a lock meanwhile, and
//! puts them back.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;

use super::ram::RamRegion;
use super::uffd::Uffd;

const KSM: &str = "/sys/kernel/mm/ksm";
const ZRAM: &str = "/sys/class/zram-control";
const MADV_COLLAPSE: libc::c_int = 25;

/// What the kernel is asked to do with pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Advice {
    /// Splits the huge pages that the range is a part of; pages of zeros become the kernel's zero page (Linux 6.12).
    Cold,
    /// As `Cold`, and swaps the pages out if there is swap space.
    PageOut,
    /// Makes huge pages of small ones (Linux 6.1).
    Collapse,
    /// Lets KSM merge pages.
    Mergeable,
}

/// Says whether the kernel has done it.
pub(crate) fn advise(region: &RamRegion, bytes: &Range<usize>, advice: Advice) -> bool {
    let advice = match advice {
        Advice::Cold => libc::MADV_COLD,
        Advice::PageOut => libc::MADV_PAGEOUT,
        Advice::Collapse => MADV_COLLAPSE,
        Advice::Mergeable => libc::MADV_MERGEABLE,
    };
    let start = region.host_address() + bytes.start;
    // SAFETY: none of these changes a byte, wherever the range is.
    unsafe { libc::madvise(start as *mut libc::c_void, bytes.len(), advice) == 0 }
}

/// `struct uffdio_writeprotect` of linux/userfaultfd.h.
#[repr(C)]
struct Protect {
    start: u64,
    len: u64,
    mode: u64,
}

ioctl_iowr_nr!(UFFDIO_WRITEPROTECT, 0xaa, 6, Protect);

/// Write-protects the pages of a range that are there, and leaves a marker where there is none.
pub(crate) fn protect(uffd: &Uffd, start: usize, len: usize) {
    let mut protect = Protect { start: start as u64, len: len as u64, mode: 1 };
    // SAFETY: the argument has the layout that the call wants, and no byte changes.
    assert_eq!(unsafe { ioctl_with_mut_ref(&uffd.as_fd(), UFFDIO_WRITEPROTECT(), &mut protect) }, 0);
}

/// A running KSM that puts the kernel's zero page in the place of pages of zeros. Dropped, it is as it was.
#[derive(Debug)]
pub(crate) struct Merging {
    /// Every setting, as it was.
    before: Vec<(String, String)>,
    _lock: File,
}

impl Merging {
    /// `None` where there is none, or this process may not change it.
    pub(crate) fn start() -> Option<Self> {
        let lock = File::open(format!("{KSM}/run")).ok()?;
        flock(&lock, FlockOperation::LockExclusive).ok()?;
        let mut here = Self { before: Vec::new(), _lock: lock };
        // `smart_scan` passes pages over that were not merged before.
        for (name, value) in [
            ("use_zero_pages", "1"),
            ("smart_scan", "0"),
            ("pages_to_scan", "20000"),
            ("sleep_millisecs", "1"),
            ("run", "1"),
        ] {
            let path = format!("{KSM}/{name}");
            let Ok(before) = fs::read_to_string(&path) else { continue };
            fs::write(&path, value).ok()?;
            here.before.push((path, before));
        }
        here.before.iter().any(|(path, _)| path.ends_with("use_zero_pages")).then_some(here)
    }

    /// Waits until every page was looked at twice, the second time to see that it has not changed; but not for long, because
    /// other programs have pages that are looked at, too.
    pub(crate) fn pass(&self) {
        let scans = || -> u64 {
            fs::read_to_string(format!("{KSM}/full_scans")).unwrap_or_default().trim().parse().unwrap_or(0)
        };
        let (first, start) = (scans(), Instant::now());
        while scans() < first + 3 && start.elapsed() < Duration::from_millis(300) {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        for (path, before) in self.before.iter().rev() {
            let _ = fs::write(path, before.trim());
        }
    }
}

/// Swap space in memory. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Swap {
    number: String,
}

impl Swap {
    const BYTES: u64 = 64 << 20;

    /// `None` where there is no zram, or this process may not use it.
    pub(crate) fn on() -> Option<Self> {
        let number = fs::read_to_string(format!("{ZRAM}/hot_add")).ok()?.trim().to_owned();
        let swap = Self { number };
        fs::write(format!("/sys/block/zram{}/disksize", swap.number), Self::BYTES.to_string()).ok()?;
        swap.format().ok()?;
        let path = swap.path();
        // SAFETY: a path that ends in NUL.
        (unsafe { libc::swapon(path.as_ptr(), 0) } == 0).then_some(swap)
    }

    /// `union swap_header` of linux/swap.h.
    fn format(&self) -> io::Result<()> {
        let mut header = [0_u8; 4096];
        header[1024..1028].copy_from_slice(&1_u32.to_ne_bytes());
        header[1028..1032].copy_from_slice(&((Self::BYTES / 4096) as u32 - 1).to_ne_bytes());
        header[4086..].copy_from_slice(b"SWAPSPACE2");
        let device = File::options().write(true).open(format!("/dev/zram{}", self.number))?;
        device.write_all_at(&header, 0)?;
        device.sync_all()
    }

    fn path(&self) -> CString {
        CString::new(format!("/dev/zram{}", self.number)).expect("a number has no NUL")
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let path = self.path();
        // SAFETY: a path that ends in NUL.
        unsafe { libc::swapoff(path.as_ptr()) };
        let _ = fs::write(format!("/sys/block/zram{}/reset", self.number), "1");
        let _ = fs::write(format!("{ZRAM}/hot_remove"), &self.number);
    }
}
