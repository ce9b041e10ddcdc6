//! A file system with one file whose storage can be made to hang and to go on, as a network's would: FUSE, served from
//! here (`include/uapi/linux/fuse.h`). Requests that hang have not been read from the kernel, so that, as with NFS, a
//! process that waits for one can be killed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::scratch::Scratch;

const NAME: &str = "disk";
const ROOT: u64 = 1;
const FILE: u64 = 2;
/// `FOPEN_DIRECT_IO` and `FOPEN_NOFLUSH`: every read and write comes here, and a close does not.
const OPEN_FLAGS: u32 = 1 | 1 << 5;
const MAX_WRITE: u32 = 128 << 10;
const PAUSE: Duration = Duration::from_millis(1);

/// The file system. Dropped, it goes on first, and is unmounted.
pub struct Stall {
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
    place: Scratch,
}

#[derive(Default)]
struct Shared {
    hangs: AtomicBool,
    ended: AtomicBool,
    /// Counts the looks of the server, so that it is known to have seen `hangs`.
    looks: AtomicU64,
    answered: AtomicU64,
}

impl Stall {
    /// Mounts one whose file has `len` zero bytes.
    pub fn new(len: usize) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let fuse = File::options().read(true).write(true).custom_flags(flags).open("/dev/fuse")?;
        let place = Scratch::new();
        std::fs::create_dir(place.path("mount"))?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
        let options = std::ffi::CString::new(options)?;
        let at = place.path("mount");
        mount("stall", &at, "fuse", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let server = std::thread::spawn(move || serve(&fuse, vec![0; len], &seen));
        Ok(Self { shared, server: Some(server), place })
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.mounted().join(NAME)
    }

    fn mounted(&self) -> PathBuf {
        self.place.path("mount")
    }

    /// How many requests have been answered.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// From here on nothing is answered.
    pub fn hang(&self) {
        self.shared.hangs.store(true, Ordering::SeqCst);
        let looks = self.shared.looks.load(Ordering::SeqCst);
        while self.shared.looks.load(Ordering::SeqCst) < looks + 2 {
            std::thread::sleep(PAUSE);
        }
    }

    /// What hung goes on.
    pub fn go_on(&self) {
        self.shared.hangs.store(false, Ordering::SeqCst);
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.go_on();
        let unmounted = unmount(Path::new(&self.mounted()), UnmountFlags::DETACH);
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
        if !std::thread::panicking() {
            unmounted.expect("it is mounted");
            std::fs::remove_dir(self.mounted()).expect("it is ours");
        }
    }
}

fn serve(fuse: &File, mut data: Vec<u8>, shared: &Shared) {
    let mut fuse = fuse;
    let mut buffer = vec![0; MAX_WRITE as usize + 8192];
    while !shared.ended.load(Ordering::SeqCst) {
        shared.looks.fetch_add(1, Ordering::SeqCst);
        if shared.hangs.load(Ordering::SeqCst) {
            std::thread::sleep(PAUSE);
            continue;
        }
        match fuse.read(&mut buffer) {
            Ok(read) => {
                if let Some(reply) = answer(&buffer[..read], &mut data) {
                    // ENOENT if whoever asked has been killed.
                    let _ = fuse.write(&reply);
                    shared.answered.fetch_add(1, Ordering::SeqCst);
                }
            }
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return,
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

fn u32_at(request: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(request[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(request: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(request[at..at + 8].try_into().expect("eight bytes"))
}

/// The answer to a request, whose header has 40 bytes; `None` where none is wanted.
fn answer(request: &[u8], data: &mut [u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 40;
    let (opcode, unique, node) = (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
    let said: Result<Vec<u8>, i32> = match opcode {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // LOOKUP
        1 if request[HEADER..].starts_with(NAME.as_bytes()) => {
            let head = [FILE.to_le_bytes(), [0; 8], [0; 8], [0; 8], [0; 8]];
            Ok([head.concat(), attributes(FILE, data.len())].concat())
        }
        1 => Err(libc::ENOENT),
        // GETATTR, SETATTR
        3 | 4 => Ok([vec![0; 16], attributes(node, data.len())].concat()),
        // OPEN, OPENDIR
        14 | 27 => Ok([[0; 8].as_slice(), &OPEN_FLAGS.to_le_bytes(), &[0; 4]].concat()),
        // READ
        15 => {
            let at = (u64_at(request, HEADER + 8) as usize).min(data.len());
            let len = (u32_at(request, HEADER + 16) as usize).min(data.len() - at);
            Ok(data[at..at + len].to_vec())
        }
        // WRITE
        16 => {
            let (at, len) = (u64_at(request, HEADER + 8) as usize, u32_at(request, HEADER + 16) as usize);
            data[at..at + len].copy_from_slice(&request[HEADER + 40..HEADER + 40 + len]);
            Ok([(len as u32).to_le_bytes(), [0; 4]].concat())
        }
        // RELEASE, FSYNC, RELEASEDIR, DESTROY
        18 | 20 | 29 | 38 => Ok(Vec::new()),
        // INIT: version 7.31, no flags
        26 => {
            let words = [7_u32, 31, 0, 0, 0, MAX_WRITE, 1];
            let mut out: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            out.resize(64, 0);
            Ok(out)
        }
        _ => Err(libc::ENOSYS),
    };
    let (error, body) = said.map_or_else(|errno| (-errno, Vec::new()), |body| (0, body));
    let len = (16 + body.len()) as u32;
    Some([&len.to_le_bytes()[..], &error.to_le_bytes(), &unique.to_le_bytes(), &body].concat())
}

/// `struct fuse_attr`.
fn attributes(node: u64, len: usize) -> Vec<u8> {
    let (mode, len) = if node == ROOT { (0o40755_u32, 0) } else { (0o100_600, len as u64) };
    let mut out =
        [node, len, len / 512, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let words = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0_u32];
    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    out
}
