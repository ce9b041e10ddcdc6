//! What is served: an image, a raw memory file, or a stack of layers, opened and checked, as one source of pages.
//!
//! Owns what may be named on a command line and what stands in front of each kind of source. Knows nothing of sessions.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use snapshot_format::dir::{self, MEMORY_PACK};
use snapshot_format::state::{ManifestState, MemoryState};
use snapshot_format::{ImageDir, MemoryIndex, StateReader, WorkingSet, working_set};

use crate::source::{
    BlockCache, Cached, Checked, Counts, Layered, Measured, MemoryFile, Pack, PackError, PageSource, Policy,
    Retry,
};

mod convert;
mod error;
mod pack;
mod zeros;

#[cfg(test)]
mod change_test;
#[cfg(test)]
mod convert_test;
#[cfg(test)]
mod image_test;
#[cfg(test)]
mod pack_test;

pub use convert::{pack, unpack, verify};
pub use error::Error;
pub use pack::{Packed, pack_memory, unpack_memory};

/// Bytes of decoded blocks that are kept unless something else is asked for.
pub const CACHE_BYTES: u64 = 256 << 20;

/// How sources are opened. What is opened with the same options, or clones of them, shares one cache.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is done about a source that fails.
    pub retry: Policy,
    cache: Arc<BlockCache>,
    /// The packs that are open, by their files: images of one base have its blocks once.
    packs: Arc<Mutex<HashMap<FileId, Weak<Cached<Pack>>>>>,
}

impl Options {
    /// With a cache of at most `cache_bytes`.
    #[must_use]
    pub fn new(cache_bytes: u64, retry: Policy) -> Self {
        Self { retry, cache: BlockCache::new(cache_bytes), packs: Arc::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new(CACHE_BYTES, Policy::default())
    }
}

/// What tells one file from another, and from what it was.
type FileId = (u64, u64, u64, i64, i64);

/// What was found under a name, to tell whether something else is there by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Vec<FileId>);

impl Identity {
    /// Of what [`Served::open`] would open: an image's directory, or each file of a stack.
    ///
    /// # Errors
    /// It is not there.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let about = |layer: &PathBuf| std::fs::metadata(layer).map(|about| id_of(&about));
        layers(path).iter().map(about).collect::<std::io::Result<_>>().map(Self)
    }
}

/// Memory that can be served, and what is known of it.
#[derive(Debug)]
pub struct Served {
    path: PathBuf,
    image_id: Option<[u8; 16]>,
    source: Arc<dyn PageSource>,
    counts: Arc<Counts>,
    index: Option<Arc<MemoryIndex>>,
    working_set: Option<WorkingSet>,
    /// Stretches of zeros, once they were looked for.
    zeros: OnceLock<Vec<[u64; 2]>>,
}

impl Served {
    /// Opens what `path` names: an image directory, a raw memory file, or layers of memory, the lowest first, with a `+`
    /// between them: `BASE+DIFF+DIFF`. The base of layers may be an image; the others are raw files, in which holes show
    /// what lies below. A path that exists as it stands is no stack, whatever it is called.
    ///
    /// # Errors
    /// It is none of these, damaged, of another version, or cannot be read. A working set that is no good is left out,
    /// with a warning.
    pub fn open(path: &Path, options: &Options) -> Result<Arc<Self>, Error> {
        let mut layers = layers(path).into_iter();
        let base = layers.next().unwrap_or_default();
        let mut found = open_base(&base, options)?;
        let uppers: Vec<PathBuf> = layers.collect();
        if !uppers.is_empty() {
            let failed = |path: &Path| {
                let path = path.to_owned();
                move |source| Error::Source { path, source }
            };
            let upper = |path: &PathBuf| {
                let file = MemoryFile::open(path).map_err(failed(path))?;
                let extents = file.extents().map_err(failed(path))?;
                Ok((Arc::new(file) as Arc<dyn PageSource>, extents))
            };
            let uppers = uppers.iter().map(upper).collect::<Result<Vec<_>, Error>>()?;
            let what = format!("`{}`", path.display());
            let stack = Layered::new(found.source, uppers, &what).map_err(failed(path))?;
            // The rest is of the base alone.
            found = Found { source: Arc::new(stack), image_id: None, index: None, working_set: None };
        }
        Ok(Self::found(path, found, options))
    }

    /// The image that `dir` is, whatever has its name by now.
    ///
    /// # Errors
    /// As [`Self::open`]; or it is being replaced.
    pub(crate) fn of_dir(dir: &ImageDir, options: &Options) -> Result<Arc<Self>, Error> {
        Ok(Self::found(dir.path(), open_dir(dir, options)?, options))
    }

    fn found(path: &Path, found: Found, options: &Options) -> Arc<Self> {
        let Found { source, image_id, index, working_set } = found;
        let counts = Arc::<Counts>::default();
        let source = Measured::new(source, Arc::clone(&counts));
        let source = Arc::new(Retry::counted(source, options.retry, Arc::clone(&counts)));
        let zeros = OnceLock::new();
        Arc::new(Self { path: path.to_owned(), image_id, source, counts, index, working_set, zeros })
    }

    /// Put together from parts: for tests and benchmarks.
    #[cfg(any(test, feature = "testing"))]
    pub fn of_parts(
        image_id: Option<[u8; 16]>,
        source: Arc<dyn PageSource>,
        working_set: Option<WorkingSet>,
    ) -> Arc<Self> {
        let (path, counts) = (PathBuf::from("parts"), Arc::default());
        let (index, zeros) = (None, OnceLock::new());
        Arc::new(Self { path, image_id, source, counts, index, working_set, zeros })
    }

    /// As it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a file is one of those that are served, by whatever name: nobody may write to it.
    pub fn holds(&self, file: &std::fs::Metadata) -> bool {
        let is_same = |found: std::io::Result<std::fs::Metadata>| {
            found.is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
        };
        layers(&self.path).iter().any(|layer| {
            let mut parts = layer.read_dir().into_iter().flatten().flatten();
            is_same(layer.metadata()) || parts.any(|part| is_same(part.path().metadata()))
        })
    }

    /// The image's name for itself, if it is one.
    pub fn id(&self) -> Option<[u8; 16]> {
        self.image_id
    }

    /// The pages.
    pub fn source(&self) -> &Arc<dyn PageSource> {
        &self.source
    }

    /// How reading them goes.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Looks for stretches that are zero, to tell VMs of them. Takes a moment, in which nobody should be waiting.
    pub(crate) fn look_for_zeros(&self) {
        if let Some(index) = &self.index {
            self.zeros.get_or_init(|| zeros::find(&*self.source, index.chunk_sums()));
        }
    }

    /// The longest stretches that are zero, as offsets and lengths, if they were looked for.
    pub(crate) fn zeros(&self) -> &[[u64; 2]] {
        self.zeros.get().map_or(&[], Vec::as_slice)
    }

    /// Where guest memory lies in it, if that is known.
    pub fn index(&self) -> Option<&MemoryIndex> {
        self.index.as_deref()
    }

    /// What a restored guest touches first, if that is known.
    pub fn working_set(&self) -> Option<&WorkingSet> {
        self.working_set.as_ref()
    }
}

/// What a path without layers has come to.
struct Found {
    source: Arc<dyn PageSource>,
    image_id: Option<[u8; 16]>,
    index: Option<Arc<MemoryIndex>>,
    working_set: Option<WorkingSet>,
}

/// The paths of a stack, the lowest first. There is one at least.
fn layers(path: &Path) -> Vec<PathBuf> {
    let bytes = path.as_os_str().as_bytes();
    if path.symlink_metadata().is_ok() || !bytes.contains(&b'+') {
        return vec![path.to_owned()];
    }
    bytes.split(|byte| *byte == b'+').map(|part| std::ffi::OsStr::from_bytes(part).into()).collect()
}

fn open_base(path: &Path, options: &Options) -> Result<Found, Error> {
    if path.is_dir() {
        return open_image(path, options);
    }
    // A raw file has no checksums, and the host's page cache is in front of it already.
    let file = MemoryFile::open(path).map_err(|source| Error::Source { path: path.to_owned(), source })?;
    Ok(Found { source: Arc::new(file), image_id: None, index: None, working_set: None })
}

/// How often an image is opened again that was replaced in the middle of it, by one with another working set.
const ATTEMPTS: usize = 8;

fn open_image(path: &Path, options: &Options) -> Result<Found, Error> {
    let mut attempt = 1;
    loop {
        let dir = ImageDir::open(path).map_err(Error::Directory)?;
        match open_dir(&dir, options) {
            Err(Error::Directory(dir::Error::Replaced { .. })) if attempt < ATTEMPTS => attempt += 1,
            opened => return opened,
        }
    }
}

fn open_dir(dir: &ImageDir, options: &Options) -> Result<Found, Error> {
    let path = dir.path();
    let damaged = |source| Error::State { path: path.to_owned(), source };
    let mut state = StateReader::parse(dir.state()).map_err(damaged)?;
    let ManifestState { image_id, .. } = state.take("manifest").map_err(damaged)?;
    let memory: MemoryState = state.take("memory").map_err(damaged)?;
    let unusable = |source| Error::Memory { path: path.to_owned(), source };
    let index = Arc::new(MemoryIndex::try_from(memory).map_err(unusable)?);
    let working_set = match dir.working_set(image_id, index.file_pages()) {
        Ok(set) => set,
        Err(working_set::Error::Part(error @ dir::Error::Replaced { .. })) => {
            return Err(Error::Directory(error));
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "image `{}` is served without its working set", path.display());
            None
        }
    };
    let source: Arc<dyn PageSource> = if dir.has_memory() {
        Arc::new(memory_file(path, dir, &index)?)
    } else {
        packed(path, dir, image_id, &index, options)?
    };
    Ok(Found { source, image_id: Some(image_id), index: Some(index), working_set })
}

/// The file `memory`, which the host's page cache is in front of, compared with its checksums.
fn memory_file(path: &Path, dir: &ImageDir, index: &Arc<MemoryIndex>) -> Result<Checked<MemoryFile>, Error> {
    let failed = |source| Error::Source { path: path.to_owned(), source };
    let what = format!("the memory of image `{}`", path.display());
    let file = dir.memory().map_err(Error::Directory)?.try_clone();
    let file =
        file.map_err(|source| failed(crate::source::Error::Read { what: what.clone(), offset: 0, source }))?;
    let file = MemoryFile::new(file, what.clone()).map_err(failed)?;
    index.check_len(file.len()).map_err(|source| Error::Memory { path: path.to_owned(), source })?;
    Checked::new(file.vouched_for(), Arc::clone(index), what).map_err(failed)
}

/// The file `memory-pack`, decoded into the cache. Its frames have sums of their own.
fn packed(
    path: &Path,
    dir: &ImageDir,
    image_id: [u8; 16],
    index: &MemoryIndex,
    options: &Options,
) -> Result<Arc<dyn PageSource>, Error> {
    let part = dir.part(MEMORY_PACK).map_err(Error::Directory)?;
    // Without either, asking for the memory says what is missing.
    let Some(file) = part else {
        return Err(dir.memory().map_or_else(Error::Directory, |_| unreachable!("there is no memory")));
    };
    let failed = |source| Error::Pack { path: path.to_owned(), source };
    let id = file_id(&file).map_err(|source| {
        failed(PackError::File(crate::source::Error::Read {
            what: MEMORY_PACK.to_owned(),
            offset: 0,
            source,
        }))
    })?;
    let mut packs = options.packs.lock().unwrap_or_else(PoisonError::into_inner);
    packs.retain(|_, pack| pack.strong_count() > 0);
    let pack = match packs.get(&id).and_then(Weak::upgrade) {
        Some(pack) => pack,
        None => {
            let pack = Pack::new(file, format!("the packed memory of image `{}`", path.display()));
            let pack = Arc::new(Cached::new(pack.map_err(failed)?, Arc::clone(&options.cache)));
            packs.insert(id, Arc::downgrade(&pack));
            pack
        }
    };
    pack.inner()
        .index()
        .check_image(image_id, index.file_pages())
        .map_err(|e| failed(PackError::Index(e)))?;
    Ok(pack)
}

fn file_id(file: &File) -> std::io::Result<FileId> {
    Ok(id_of(&file.metadata()?))
}

fn id_of(about: &std::fs::Metadata) -> FileId {
    (about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec())
}
