//! A snapshot of memory against a model of it: whatever the guest and the kernel have done to the pages, every one is saved
//! as it was.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use snapshot_format::MemoryIndex;
use snapshot_format::pages::{ChunkSums, FileOffset, Gpa, PAGE_BYTES, PageCount, Region, verify};
use vm_memory::{Bytes, GuestAddress};

use super::Haste;
use super::pages::{Target, copy_own};
use crate::lifecycle::Quiesced;
use crate::memory::layout::RamLayout;
use crate::memory::{Image, Memory, give_back, lazy};
use crate::sys::page_stub;
use crate::sys::page_tricks::{Advice, Merging, Swap, advise};

const PAGES: u64 = 4096;
const CHUNK_PAGES: u64 = 512;
/// Below are pages that a guest cannot give back.
const FIRST: u64 = 256;
const STEPS: u32 = 60;

/// What guest memory is before the guest has written it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Booted,
    Mapped,
    /// Delivered, and whether the file is here as well.
    Lazy {
        is_here: bool,
        record: bool,
    },
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }

    /// Some pages: few, or about a chunk.
    fn pages(&mut self) -> Range<u64> {
        let longest = if self.below(3) == 0 { 2 * CHUNK_PAGES } else { 8 };
        let start = FIRST + self.below(PAGES - FIRST);
        start..(start + 1 + self.below(longest)).min(PAGES)
    }

    fn chunk(&mut self) -> Range<u64> {
        let start = (1 + self.below(PAGES / CHUNK_PAGES - 1)) * CHUNK_PAGES;
        start..start + CHUNK_PAGES
    }
}

/// A page of the word `content`; 0 is a page of zeros.
fn page(content: u64) -> [u8; PAGE_BYTES as usize] {
    let mut bytes = [0; PAGE_BYTES as usize];
    bytes.as_chunks_mut().0.fill(content.to_ne_bytes());
    bytes
}

fn bytes(pages: &Range<u64>) -> Range<usize> {
    (pages.start * PAGE_BYTES) as usize..(pages.end * PAGE_BYTES) as usize
}

/// An image's memory: data with holes in it, and two chunks of nothing but zeros.
fn image(model: &[u64]) -> Arc<Image> {
    let (file, pages) = (tempfile::tempfile().unwrap(), PageCount::from_bytes(PAGES * PAGE_BYTES).unwrap());
    file.set_len(pages.bytes()).unwrap();
    let mut sums = ChunkSums::new(pages);
    for (number, content) in (0..).zip(model) {
        if sums.add(number, &page(*content)).unwrap() {
            file.write_all_at(&page(*content), number * PAGE_BYTES).unwrap();
        }
    }
    let region = Region::new(Gpa::new(0).unwrap(), pages, FileOffset::new(0).unwrap()).unwrap();
    Arc::new(Image::new(file, MemoryIndex::new(vec![region], sums).unwrap()))
}

/// A page server on a thread.
struct Server {
    go: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(stream: UnixStream, file: File) -> Self {
        let go = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&go);
        let serve = move || {
            let taken = page_stub::take(&stream);
            let mut bytes = page(0);
            while !told.load(Ordering::SeqCst) {
                if let Some(offset) = taken.fault(Duration::from_millis(2)) {
                    file.read_exact_at(&mut bytes, offset).unwrap();
                    taken.deliver(offset, &bytes);
                }
            }
        };
        Self { go, thread: Some(thread::spawn(serve)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.go.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A guest's memory and what must be in it.
struct Subject {
    memory: Memory,
    model: Vec<u64>,
    next: u64,
    /// Dropped after the memory.
    _server: Option<Server>,
}

impl Subject {
    fn new(kind: Kind) -> Self {
        let zeros = 2 * CHUNK_PAGES..4 * CHUNK_PAGES;
        let model: Vec<u64> =
            (0..PAGES).map(|n| if zeros.contains(&n) || n % 7 == 0 { 0 } else { n + 1 }).collect();
        let (next, mut server) = (PAGES + 1, None);
        let (memory, model) = match kind {
            Kind::Booted => {
                let layout = RamLayout::new(PAGES * PAGE_BYTES).unwrap();
                (Memory::anonymous(layout).unwrap(), vec![0; PAGES as usize])
            }
            Kind::Mapped => (Memory::private_file(&image(&model)).unwrap(), model),
            Kind::Lazy { is_here, record } => {
                let image = image(&model);
                let (ours, theirs) = UnixStream::pair().unwrap();
                server = Some(Server::start(theirs, image.file().try_clone().unwrap()));
                let timeout = Duration::from_secs(60);
                let options = lazy::Options { image_id: [0; 16], prefetch: false, record, timeout };
                let from = lazy::Server { stream: ours, path: None };
                let here = if is_here { lazy::Here::File(Arc::clone(&image)) } else { lazy::Here::Nothing };
                (Memory::lazy(image.index(), here, from, &options).unwrap(), model)
            }
        };
        Self { memory, model, next, _server: server }
    }

    fn write(&mut self, pages: &Range<u64>, content: u64) {
        for number in pages.clone() {
            let at = GuestAddress(number * PAGE_BYTES);
            self.memory.ram().write_slice(&page(content), at).unwrap();
            self.model[number as usize] = content;
        }
    }

    fn read(&self, pages: &Range<u64>) {
        for number in pages.clone() {
            let found: u64 = self.memory.ram().read_obj(GuestAddress(number * PAGE_BYTES + 8)).unwrap();
            assert_eq!(found, self.model[number as usize], "page {number}");
        }
    }

    fn advise(&self, pages: &Range<u64>, advice: Advice) -> bool {
        advise(self.memory.region(0).unwrap(), &bytes(pages), advice)
    }

    fn step(&mut self, random: &mut Random, merging: Option<&Merging>) {
        let pages = random.pages();
        match random.below(9) {
            0 | 1 => {
                self.next += 1;
                self.write(&pages, self.next);
            }
            2 => self.write(&pages, 0),
            3 => self.read(&pages),
            4 => {
                let gpas = pages.start * PAGE_BYTES..pages.end * PAGE_BYTES;
                assert_eq!(give_back(self.memory.ram(), gpas.clone()).unwrap(), gpas.end - gpas.start);
                self.model[pages.start as usize..pages.end as usize].fill(0);
            }
            5 => {
                self.advise(&pages, Advice::PageOut);
            }
            6 => {
                if let Some(merging) = merging {
                    merging.pass();
                }
            }
            // A huge page that has become mostly zeros is split.
            7 => {
                let chunk = random.chunk();
                self.next += 1;
                self.write(&chunk, self.next);
                self.advise(&chunk, Advice::Collapse);
                let zeros = chunk.start + random.below(8)..chunk.end - random.below(8);
                self.write(&zeros, 0);
                self.advise(&(chunk.start..chunk.start + 1), Advice::Cold);
            }
            _ => {
                self.advise(&(pages.start..pages.start + 1), Advice::Cold);
            }
        }
    }

    /// The model against an image of it.
    fn compare(&self, story: &str) {
        let target = Target { out: Path::new("image"), cancelled: &|| false };
        let (file, at_rest) = (tempfile::tempfile().unwrap(), Quiesced::in_test());
        let mut copied =
            copy_own(&self.memory, &at_rest, file.try_clone().unwrap(), Haste::NobodyWaits, target).unwrap();
        copied.copy_base(target).unwrap();
        let (index, _) = copied.finish().unwrap();
        verify(&file, &index).unwrap();
        let (mut found, mut wrong) = (page(0), Vec::new());
        for (number, content) in (0..).zip(&self.model) {
            file.read_exact_at(&mut found, number * PAGE_BYTES).unwrap();
            if found != page(*content) {
                wrong.push(number);
            }
        }
        let first = wrong.first();
        assert!(
            wrong.is_empty(),
            "{story}: {} of {PAGES} pages are wrong, the first is {first:?}",
            wrong.len()
        );
        let data = self.model.iter().filter(|content| **content != 0).count();
        assert_eq!(index.data_pages(), data as u64, "{story}");
    }
}

fn run(kind: Kind, seeds: Range<u64>) {
    let (merging, _swap) = (Merging::start(), Swap::on());
    for seed in seeds {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut subject = Subject::new(kind);
        if merging.is_some() {
            subject.advise(&(0..PAGES), Advice::Mergeable);
        }
        for step in 0..STEPS {
            subject.step(&mut random, merging.as_ref());
            if random.below(20) == 0 {
                subject.compare(&format!("{kind:?}, seed {seed}, step {step}"));
            }
        }
        subject.compare(&format!("{kind:?}, seed {seed}"));
    }
}

#[test]
fn a_booted_guest_is_saved_as_it_was() {
    run(Kind::Booted, 0..4);
}

#[test]
fn a_mapped_guest_is_saved_as_it_was() {
    run(Kind::Mapped, 100..106);
}

#[test]
fn a_guest_whose_pages_are_delivered_is_saved_as_it_was() {
    run(Kind::Lazy { is_here: true, record: false }, 200..204);
    run(Kind::Lazy { is_here: true, record: true }, 300..302);
}

#[test]
fn a_guest_whose_file_is_elsewhere_is_saved_as_it_was() {
    run(Kind::Lazy { is_here: false, record: false }, 400..402);
}
