//! What a VMM says to a page server when it hands over its userfaultfd, and what the server says back.
//!
//! Bytes only: sockets and descriptors are others' business. The first message is Firecracker's (a JSON array with one
//! object for each region of guest memory, unframed, the descriptor beside it), so its page-fault handlers serve our
//! VMM and our server serves its. Ours adds one member, `rekindle`, to the first object, which others ignore; only a
//! server that has seen it answers, in lines of JSON. `page-server/PROTOCOL.md` is normative.

use serde::{Deserialize, Serialize};

use crate::pages::{MAX_MEMORY_BYTES, PAGE_BYTES};

#[cfg(test)]
#[path = "handoff_test.rs"]
mod handoff_test;

/// The most bytes of a handshake: handlers in the field read it into a buffer of 1024.
pub const MAX_HANDSHAKE_BYTES: usize = 1023;
/// The most regions in a handshake.
pub const MAX_MAPPINGS: usize = 64;
/// The most bytes of a line that a server says, its end included.
pub const MAX_LINE_BYTES: usize = 4096;
/// The most stretches of zeros that a server names to a VMM.
pub const MAX_ZEROS: usize = 512;
/// The most of them in one line: two numbers of 20 digits each, and what stands between them.
const ZEROS_IN_LINE: usize = 80;
/// The sizes that the pages of a region may have: 4 KiB, and 2 MiB (hugetlbfs).
pub const PAGE_SIZES: [u64; 2] = [PAGE_BYTES, 2 << 20];
/// The version of what `rekindle` in a handshake means.
pub const VERSION: u32 = 1;

/// The first address that no process has (the 57 bits of five-level page tables, of which the upper half is the
/// kernel's).
const MAX_ADDRESS: u64 = 1 << 56;

/// One stretch of guest memory: where the VMM has it, and where its bytes are in the memory file.
///
/// Aligned to its page size, not empty, within address space and file bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Address in the VMM's process.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
    /// Offset of its first byte in the memory file.
    pub offset: u64,
    /// Bytes of a page: one of [`PAGE_SIZES`].
    pub page_bytes: u64,
}

/// What our VMM says beyond the regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of whoever speaks.
    pub version: u32,
    /// The image, as its manifest names it, in hexadecimal.
    pub image_id: String,
    /// Whether the working set may be delivered ahead of the guest's touching it.
    #[serde(default = "yes")]
    pub prefetch: bool,
    /// Whether the VMM records which pages are touched and written: nothing is delivered that was not asked for, page
    /// by page, each write-protected (`UFFDIO_COPY_MODE_WP`) unless `write_protect` says otherwise.
    #[serde(default)]
    pub record: bool,
    /// Whether pages are delivered write-protected, if that is not what `record` says: the kernel refuses such a copy
    /// (EINVAL) into memory that is not registered for write protection, which takes Linux 6.7 (`UFFD_FEATURE_WP_ASYNC`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_protect: Option<bool>,
    /// Whether the VMM wants to hear [`FromServer::Serving`]: one that does not takes it for no message.
    #[serde(default, skip_serializing_if = "is_false")]
    pub acknowledge: bool,
    /// Whether the VMM wants to hear [`FromServer::Zeros`], after [`FromServer::Serving`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub zeros: bool,
}

impl Hello {
    /// Whether pages are to be delivered write-protected.
    #[must_use]
    pub fn protects(&self) -> bool {
        self.write_protect.unwrap_or(self.record)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

fn yes() -> bool {
    true
}

/// An image's id as it is spelled: 32 hexadecimal digits in lower case.
#[must_use]
pub fn spell_id(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first message, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// 1 to [`MAX_MAPPINGS`], in the sender's order; neither addresses nor file offsets overlap.
    pub mappings: Vec<Mapping>,
    /// There if the sender is one of ours.
    pub hello: Option<Hello>,
}

/// What a server says to a VMM that has said [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromServer {
    /// It serves this VM, and is one that speaks: said first, to a VMM that has asked for it ([`Hello::acknowledge`]).
    Serving,
    /// Stretches of the memory file that are zero, each from an offset on for so many bytes: said to a VMM that has asked for it
    /// ([`Hello::zeros`]), in several lines if there are many. The VMM may have the kernel give zeros there.
    Zeros(Vec<[u64; 2]>),
    /// It does not serve this VMM, and why.
    Refused {
        /// For people.
        cause: String,
    },
    /// A page cannot be delivered: the guest must not go on.
    Lost {
        /// Where it is in the memory file.
        offset: u64,
        /// For people.
        cause: String,
    },
    /// Every page has been delivered: the server is not needed any more.
    Complete,
}

/// Why a handshake is refused, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No JSON, or not of the form.
    #[error("the handshake is not an array of memory regions")]
    Json(#[source] serde_json::Error),
    /// No region, or too many.
    #[error("{count} regions in the handshake, 1 to {MAX_MAPPINGS} are possible")]
    Count {
        /// How many.
        count: usize,
    },
    /// A page size that the server does not know.
    #[error("pages of {page_bytes} bytes; 4096 and 2097152 are possible")]
    PageSize {
        /// What was said.
        page_bytes: u64,
    },
    /// Empty, unaligned, or beyond all bounds.
    #[error(
        "a region of {len} bytes at {address:#x}, offset {offset:#x}, is empty, unaligned or out of bounds"
    )]
    Bounds {
        /// Address in the VMM.
        address: u64,
        /// Length in bytes.
        len: u64,
        /// Offset in the memory file.
        offset: u64,
    },
    /// Two regions overlap, in the VMM or in the file.
    #[error("the region at {address:#x} overlaps another one")]
    Overlap {
        /// Address of one of them.
        address: u64,
    },
    /// Longer than handlers read.
    #[error("the handshake is {len} bytes long, at most {MAX_HANDSHAKE_BYTES} are read")]
    TooLong {
        /// How long.
        len: usize,
    },
    /// A version of ours that this build does not know.
    #[error("the VMM speaks version {version}, this build speaks {VERSION}")]
    Version {
        /// What it said.
        version: u32,
    },
    /// A line of the server's is no message.
    #[error("the page server says something that is no message")]
    Line(#[source] serde_json::Error),
}

/// A region as it is spelled: `page_size_kib` is in bytes in spite of its name, and some handlers read only that.
#[derive(Serialize, Deserialize)]
struct Spelled {
    base_host_virt_addr: u64,
    size: u64,
    offset: u64,
    #[serde(default)]
    page_size: Option<u64>,
    #[serde(default)]
    page_size_kib: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rekindle: Option<Hello>,
}

impl Handshake {
    /// Reads the first message.
    ///
    /// # Errors
    /// It is malformed, or says what cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let spelled: Vec<Spelled> = serde_json::from_slice(bytes).map_err(Error::Json)?;
        let mut hello = None;
        let mut mappings = Vec::with_capacity(spelled.len().min(MAX_MAPPINGS));
        if spelled.is_empty() || spelled.len() > MAX_MAPPINGS {
            return Err(Error::Count { count: spelled.len() });
        }
        for region in spelled {
            let Spelled { base_host_virt_addr, size, offset, page_size, page_size_kib, rekindle } = region;
            let page_bytes = page_size.or(page_size_kib).unwrap_or(PAGE_BYTES);
            mappings.push(Mapping { address: base_host_virt_addr, len: size, offset, page_bytes }.checked()?);
            hello = hello.or(rekindle);
        }
        check_apart(&mappings)?;
        match hello {
            Some(Hello { version, .. }) if version != VERSION => Err(Error::Version { version }),
            hello => Ok(Self { mappings, hello }),
        }
    }

    /// The bytes of the first message.
    ///
    /// # Errors
    /// There are more regions than handlers have room for.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut hello = self.hello.as_ref();
        let spelled = self.mappings.iter().map(|&Mapping { address, len, offset, page_bytes }| Spelled {
            base_host_virt_addr: address,
            size: len,
            offset,
            page_size: Some(page_bytes),
            page_size_kib: Some(page_bytes),
            rekindle: hello.take().cloned(),
        });
        let bytes = serde_json::to_vec(&spelled.collect::<Vec<_>>()).map_err(Error::Json)?;
        if bytes.len() > MAX_HANDSHAKE_BYTES {
            return Err(Error::TooLong { len: bytes.len() });
        }
        Ok(bytes)
    }
}

impl Mapping {
    fn checked(self) -> Result<Self, Error> {
        let Self { address, len, offset, page_bytes } = self;
        if !PAGE_SIZES.contains(&page_bytes) {
            return Err(Error::PageSize { page_bytes });
        }
        let aligned = [address, len, offset].iter().all(|value| value.is_multiple_of(page_bytes));
        let within = |start: u64, max: u64| start.checked_add(len).is_some_and(|end| end <= max);
        if len > 0 && aligned && within(address, MAX_ADDRESS) && within(offset, MAX_MEMORY_BYTES) {
            Ok(self)
        } else {
            Err(Error::Bounds { address, len, offset })
        }
    }
}

/// No two of them share an address or a byte of the file.
fn check_apart(mappings: &[Mapping]) -> Result<(), Error> {
    for start in [|mapping: &Mapping| mapping.address, |mapping: &Mapping| mapping.offset] {
        let mut sorted: Vec<&Mapping> = mappings.iter().collect();
        sorted.sort_unstable_by_key(|mapping| start(mapping));
        // No sum wraps: both ends were checked.
        if let Some(pair) = sorted.windows(2).find(|pair| start(pair[0]) + pair[0].len > start(pair[1])) {
            return Err(Error::Overlap { address: pair[1].address });
        }
    }
    Ok(())
}

impl FromServer {
    /// Reads one line, without its end.
    ///
    /// # Errors
    /// It is no message.
    pub fn parse(line: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(line).map_err(Error::Line)
    }

    /// What names the first [`MAX_ZEROS`] of `stretches`, in lines that are not too long.
    pub fn zeros(stretches: &[[u64; 2]]) -> impl Iterator<Item = Self> + '_ {
        stretches[..stretches.len().min(MAX_ZEROS)]
            .chunks(ZEROS_IN_LINE)
            .map(|some| Self::Zeros(some.to_vec()))
    }

    /// The line, its end included; a cause that is too long is cut, and so are stretches: see [`Self::zeros`].
    pub fn encode(&self) -> Vec<u8> {
        let mut said = self.clone();
        if let Self::Refused { cause } | Self::Lost { cause, .. } = &mut said {
            // Each character is at most six bytes in JSON.
            let keep = cause.char_indices().nth(MAX_LINE_BYTES / 8).map_or(cause.len(), |(at, _)| at);
            cause.truncate(keep);
        }
        if let Self::Zeros(stretches) = &mut said {
            stretches.truncate(ZEROS_IN_LINE);
        }
        let mut line = serde_json::to_vec(&said).unwrap_or_default();
        line.push(b'\n');
        line
    }
}
