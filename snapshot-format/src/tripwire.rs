//! Every number that is on disks somewhere, held fast.
//!
//! A number here changes together with FORMAT.md or PARTS.md and the goldens, or not at all.

use crate::codec::{Blob, Words};
use crate::pages;
use crate::{dir, header, section, working_set};

/// `hold!(what == number, "what it is")`
macro_rules! hold {
    ($found:expr => $number:expr, $what:literal) => {
        const _: () = assert!(
            $found == $number,
            concat!($what, " is on disks already: read \"Evolution\" in FORMAT.md before you change it")
        );
    };
}

hold!(u64::from_le_bytes(header::MAGIC) => 0x454c_444e_494b_4552, "the magic, REKINDLE");
hold!(header::FORMAT_VERSION => 1, "the format version");
hold!(header::HEADER_BYTES => 32, "the header's length");
hold!(header::CHECKSUM_BYTES => 8, "the checksum's length");
hold!(header::MAX_STATE_BYTES => 67_108_864, "the bound of a state file");
hold!(header::Architecture::X86_64 as u16 => 1, "the number of x86_64");
hold!(section::NAME_BYTES => 32, "the length of a section's name");
hold!(section::ENTRY_BYTES => 56, "the length of a table entry");
hold!(section::MAX_SECTIONS => 512, "the bound of the section count");
hold!(Blob::MAX => 1_048_576, "the bound of a blob");
hold!(Words::MAX => 524_288, "the bound of a word list");
hold!(pages::PAGE_BYTES => 4096, "the page size");
hold!(pages::CHUNK_BYTES => 2_097_152, "the chunk size");
hold!(pages::MAX_REGIONS => 8, "the bound of the region count");
hold!(pages::MAX_MEMORY_BYTES => 1_099_511_627_776, "the bound of a memory file");
hold!(pages::MAX_GUEST_ADDRESS => 4_503_599_627_370_496, "the bound of guest addresses");
hold!(dir::STATE.len() => 5, "the name of the state file");
hold!(dir::MEMORY.len() => 6, "the name of the memory file");
hold!(dir::MEMORY_PACK.len() => 11, "the name of the pack");
hold!(dir::WORKING_SET.len() => 11, "the name of the working set");
hold!(u64::from_le_bytes(working_set::MAGIC) => 0x5445_534e_494b_4552, "the magic, REKINSET");
hold!(working_set::VERSION => 1, "the version of a working set");
hold!(working_set::HEADER_BYTES => 48, "the length of a working set's header");
hold!(working_set::RUN_BYTES => 16, "the length of a run");
hold!(working_set::MAX_RUNS => 1_048_576, "the bound of the run count");
hold!(u64::from_le_bytes(pages::pack::MAGIC) => 0x4b43_4150_4e4b_4552, "the magic, REKNPACK");
hold!(pages::pack::VERSION => 1, "the version of a pack");
hold!(pages::pack::HEADER_BYTES => 64, "the length of a pack's header");
hold!(pages::pack::ENTRY_BYTES => 12, "the length of a pack's entry");
hold!(pages::pack::FRAME_BYTES => 65_536, "the memory in a frame");

// Numbers that must fit together.
hold!(pages::MAX_MEMORY_BYTES / pages::CHUNK_BYTES => Words::MAX as u64, "the largest file's number of chunks");
hold!(pages::CHUNK_BYTES % pages::PAGE_BYTES => 0, "a chunk of whole pages");
hold!(pages::CHUNK_BYTES % pages::pack::FRAME_BYTES => 0, "a chunk of whole frames");
