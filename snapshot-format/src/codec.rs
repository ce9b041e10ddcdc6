//! Encoding of the saved types: the only module that knows `versionize`, and through it bincode 1.x.
//!
//! It turns one saved value into bytes and back. It knows nothing of sections, files or checksums.
//!
//! The bytes come from a file that may be hostile, so three things hold of [`decode`]: it never panics, it leaves no
//! byte unread, and it allocates no more than a small multiple of its input. The last follows from how each container
//! is read: `Vec` grows as its elements arrive (versionize reserves nothing ahead), [`Blob`] and [`Words`] are read in
//! pieces, and a `String` reserves at most 16 KiB.

use std::any::TypeId;
use std::io::{self, Read};

use versionize::{VersionMap, Versionize, VersionizeError, VersionizeResult};

#[cfg(test)]
#[path = "codec_test.rs"]
mod codec_test;

/// What a file of saved types needs to import.
pub mod prelude {
    pub use super::{Blob, Words};
    pub use versionize::{VersionMap, Versionize, VersionizeResult};
    pub use versionize_derive::Versionize;
}

/// Why a value could not be encoded or decoded. Where it lay is for the caller to say.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A string, vector or blob of the value is longer than the format allows.
    #[error("cannot encode the value")]
    Encode(#[source] Cause),
    /// The bytes are no value of the type.
    #[error("cannot decode the value")]
    Decode(#[source] Cause),
    /// The bytes end within the value.
    #[error("the bytes end within the value")]
    Short,
    /// Bytes are left over behind the value.
    #[error("{bytes} bytes are left over behind the value")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// What the underlying codec said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cause(VersionizeError);

/// One type that a section's bytes are made of, and how often it has changed.
///
/// A type's own version is the highest `start` or `end` among its fields, and both are section versions: at section
/// version V a type is encoded by its own version min(V, latest).
#[derive(Clone, Copy)]
pub struct Part {
    id: TypeId,
    latest: fn() -> u16,
}

impl Part {
    /// The part that `T` is.
    pub const fn of<T: Versionize + 'static>() -> Self {
        Self { id: TypeId::of::<T>(), latest: T::version }
    }
}

/// `value` as version `version` of its section writes it. `parts` names every type within `T`, `T` included.
pub fn encode<T: Versionize>(value: &T, version: u16, parts: &[Part]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut bytes, &history(version, parts), version).map_err(|e| Error::Encode(Cause(e)))?;
    Ok(bytes)
}

/// The value that `bytes`, all of them, hold as version `version` of its section wrote it.
///
/// Call only with a version that this build reads, 1 or higher.
pub fn decode<T: Versionize>(bytes: &[u8], version: u16, parts: &[Part]) -> Result<T, Error> {
    let mut input = Input { rest: bytes, short: false };
    let decoded = T::deserialize(&mut input, &history(version, parts), version);
    match decoded {
        Ok(_) if !input.rest.is_empty() => Err(Error::Trailing { bytes: input.rest.len() }),
        Ok(value) => Ok(value),
        Err(_) if input.short => Err(Error::Short),
        Err(e) => Err(Error::Decode(Cause(e))),
    }
}

/// The version of every part at section version `version`, in the form versionize wants it.
///
/// Types that never changed are left out: versionize takes an unlisted type to be at version 1, and a map with nothing
/// in it costs no hashing per element, which is most of the time of decoding a list of MSRs.
fn history(version: u16, parts: &[Part]) -> VersionMap {
    let mut map = VersionMap::new();
    for part in parts {
        let latest = (part.latest)();
        if latest > 1 {
            // The map has one root version only, which stands for whatever version is asked for.
            map.set_type_version(part.id, version.clamp(1, latest));
        }
    }
    map
}

/// The bytes that are still to be decoded; remembers that more were wanted than there are, which versionize reports
/// as an I/O error like any other.
struct Input<'a> {
    rest: &'a [u8],
    short: bool,
}

impl Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.short |= self.rest.is_empty() && !buf.is_empty();
        self.rest.read(buf)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.short |= self.rest.len() < buf.len();
        self.rest.read_exact(buf)
    }
}

/// Bytes that are written and read in one piece: a u64 length, then the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Blob {
    /// The longest blob that is written or read, in bytes.
    pub const MAX: usize = 1 << 20;
}

impl Versionize for Blob {
    fn serialize<W: io::Write>(
        &self,
        writer: &mut W,
        map: &VersionMap,
        version: u16,
    ) -> VersionizeResult<()> {
        counted(self.0.len(), Self::MAX)?.serialize(writer, map, version)?;
        writer.write_all(&self.0).map_err(os_error)
    }

    fn deserialize<R: Read>(reader: &mut R, map: &VersionMap, version: u16) -> VersionizeResult<Self> {
        let len = bounded(u64::deserialize(reader, map, version)?, Self::MAX)?;
        let mut bytes = Vec::with_capacity(len.min(PIECE));
        read_pieces(reader, len, |piece| bytes.extend_from_slice(piece))?;
        Ok(Self(bytes))
    }

    fn version() -> u16 {
        1
    }
}

/// A list of 64-bit words that is written and read in one piece: a u64 count, then the words, little-endian.
///
/// The same bytes as a `Vec<u64>`, without the call per element: a terabyte of memory has half a million of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub Vec<u64>);

impl Words {
    /// The longest list that is written or read, in words.
    pub const MAX: usize = 1 << 19;
}

impl Versionize for Words {
    fn serialize<W: io::Write>(
        &self,
        writer: &mut W,
        map: &VersionMap,
        version: u16,
    ) -> VersionizeResult<()> {
        counted(self.0.len(), Self::MAX)?.serialize(writer, map, version)?;
        let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        writer.write_all(&bytes).map_err(os_error)
    }

    fn deserialize<R: Read>(reader: &mut R, map: &VersionMap, version: u16) -> VersionizeResult<Self> {
        let count = bounded(u64::deserialize(reader, map, version)?, Self::MAX)?;
        let mut words = Vec::with_capacity(count.min(PIECE / WORD));
        read_pieces(reader, count * WORD, |piece| {
            let (whole, _) = piece.as_chunks::<WORD>();
            words.extend(whole.iter().map(|&word| u64::from_le_bytes(word)));
        })?;
        Ok(Self(words))
    }

    fn version() -> u16 {
        1
    }
}

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// Bytes read, and reserved, before it is known that the input holds more. A multiple of [`WORD`].
const PIECE: usize = 4096;

/// The length that is written before a list; refused where [`bounded`] would refuse to read it.
fn counted(len: usize, max: usize) -> VersionizeResult<u64> {
    if len > max { Err(VersionizeError::VecLength(len)) } else { Ok(len as u64) }
}

fn bounded(len: u64, max: usize) -> VersionizeResult<usize> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len <= max { Ok(len) } else { Err(VersionizeError::VecLength(len)) }
}

fn read_pieces<R: Read>(reader: &mut R, len: usize, mut take: impl FnMut(&[u8])) -> VersionizeResult<()> {
    let mut piece = [0; PIECE];
    let mut left = len;
    while left > 0 {
        let piece = &mut piece[..left.min(PIECE)];
        reader.read_exact(piece).map_err(os_error)?;
        take(piece);
        left -= piece.len();
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn os_error(error: io::Error) -> VersionizeError {
    VersionizeError::Io(error.raw_os_error().unwrap_or(0))
}
