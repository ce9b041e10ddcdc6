//! Tiny kernels made up for the tests, with every header field in reach.

/// What goes into a bzImage's setup header; the rest of the file follows from it.
#[derive(Clone, Copy)]
pub(super) struct BzImage {
    pub(super) setup_sects: u8,
    /// `None`: as long as the code is.
    pub(super) syssize: Option<u32>,
    pub(super) version: u16,
    pub(super) loadflags: u8,
    pub(super) xloadflags: u16,
    pub(super) initrd_addr_max: u32,
    pub(super) kernel_alignment: u32,
    pub(super) relocatable: u8,
    pub(super) cmdline_size: u32,
    pub(super) pref_address: u64,
    pub(super) init_size: u32,
    pub(super) code_len: usize,
    /// Bytes after the code, as a signature would be.
    pub(super) appended: usize,
}

impl Default for BzImage {
    fn default() -> Self {
        Self {
            setup_sects: 3,
            syssize: None,
            version: 0x20F,
            loadflags: 1,
            xloadflags: 1,
            initrd_addr_max: 0x7FFF_FFFF,
            kernel_alignment: 0x20_0000,
            relocatable: 1,
            cmdline_size: 2047,
            pref_address: 0x100_0000,
            init_size: 0x10_0000,
            code_len: 0x1000,
            appended: 0,
        }
    }
}

/// What the code of a made-up kernel consists of, and what follows it.
pub(super) const CODE: u8 = 0xC0;
pub(super) const APPENDED: u8 = 0xAA;

impl BzImage {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let sectors = if self.setup_sects == 0 { 4 } else { usize::from(self.setup_sects) };
        let mut file = vec![0; (sectors + 1) * 512];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        let paragraphs = self.syssize.unwrap_or((self.code_len / 16) as u32);
        put(0x1F1, &[self.setup_sects]);
        put(0x1F4, &paragraphs.to_le_bytes());
        put(0x1FE, &0xAA55_u16.to_le_bytes());
        put(0x200, &[0xEB, 0x66]);
        put(0x202, b"HdrS");
        put(0x206, &self.version.to_le_bytes());
        put(0x211, &[self.loadflags]);
        put(0x22C, &self.initrd_addr_max.to_le_bytes());
        put(0x230, &self.kernel_alignment.to_le_bytes());
        put(0x234, &[self.relocatable]);
        put(0x236, &self.xloadflags.to_le_bytes());
        put(0x238, &self.cmdline_size.to_le_bytes());
        // An address where there must be none, and code where the header has ended.
        put(0x250, &0xDEAD_0000_u64.to_le_bytes());
        put(0x258, &self.pref_address.to_le_bytes());
        put(0x260, &self.init_size.to_le_bytes());
        put(0x268, &[0xCC; 4]);
        file.resize(file.len() + self.code_len, CODE);
        file.resize(file.len() + self.appended, APPENDED);
        file
    }
}

/// One program header and its bytes in the file.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) kind: u32,
    pub(super) paddr: u64,
    pub(super) memory_len: u64,
    pub(super) bytes: Vec<u8>,
    /// Instead of what `bytes` says.
    pub(super) file_len: Option<u64>,
    pub(super) offset: Option<u64>,
}

impl Segment {
    pub(super) fn load(paddr: u64, len: usize) -> Self {
        let bytes = vec![CODE; len];
        Self { kind: 1, paddr, memory_len: len as u64, bytes, file_len: None, offset: None }
    }

    /// A note with the PVH entry point, after another note, as Linux has them.
    pub(super) fn pvh_note(entry: u32) -> Self {
        let words = |words: [u32; 3]| words.map(u32::to_le_bytes).concat();
        let mut bytes = words([6, 4, 1]);
        bytes.extend(b"Linux\0\0\0\x01\0\0\0");
        bytes.extend(words([4, 4, 18]));
        bytes.extend(b"Xen\0");
        bytes.extend(entry.to_le_bytes());
        Self { kind: 4, paddr: 0, memory_len: 0, bytes, file_len: None, offset: None }
    }
}

/// What goes into an ELF file's header.
#[derive(Clone)]
pub(super) struct Elf {
    pub(super) class: u8,
    pub(super) order: u8,
    pub(super) kind: u16,
    pub(super) machine: u16,
    pub(super) entry: u64,
    pub(super) header_len: u16,
    /// `None`: right after the header.
    pub(super) headers_at: Option<u64>,
    /// `None`: as many as there are segments.
    pub(super) header_count: Option<u16>,
    pub(super) segments: Vec<Segment>,
}

impl Elf {
    pub(super) fn new(segments: Vec<Segment>) -> Self {
        let entry = segments.first().map_or(0, |segment| segment.paddr);
        let (headers_at, header_count) = (None, None);
        Self {
            class: 2,
            order: 1,
            kind: 2,
            machine: 62,
            entry,
            header_len: 56,
            headers_at,
            header_count,
            segments,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * self.segments.len()];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        let count = self.header_count.unwrap_or(self.segments.len() as u16);
        put(0, b"\x7FELF");
        put(4, &[self.class, self.order, 1]);
        put(16, &self.kind.to_le_bytes());
        put(18, &self.machine.to_le_bytes());
        put(24, &self.entry.to_le_bytes());
        put(32, &self.headers_at.unwrap_or(64).to_le_bytes());
        put(54, &self.header_len.to_le_bytes());
        put(56, &count.to_le_bytes());
        for (i, segment) in self.segments.iter().enumerate() {
            let (header, offset) = (64 + 56 * i, segment.offset.unwrap_or(file.len() as u64));
            let file_len = segment.file_len.unwrap_or(segment.bytes.len() as u64);
            let mut put = |at: usize, bytes: &[u8]| file[header + at..][..bytes.len()].copy_from_slice(bytes);
            put(0, &segment.kind.to_le_bytes());
            put(8, &offset.to_le_bytes());
            put(24, &segment.paddr.to_le_bytes());
            put(32, &file_len.to_le_bytes());
            put(40, &segment.memory_len.to_le_bytes());
            file.extend(&segment.bytes);
        }
        file
    }
}
