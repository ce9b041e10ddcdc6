//! The `state` file taken apart and put together again, sealed: so that what is wrong with it is what the test says,
//! and not the checksum.

use std::path::PathBuf;

use snapshot_format::header::{CHECKSUM_BYTES, FORMAT_VERSION, HEADER_BYTES, Header, MAGIC};
use snapshot_format::section::{ENTRY_BYTES, NAME_BYTES, parse_table};
use snapshot_format::testing::reseal;
use snapshot_format::{Saved, codec};

use crate::image::Image;

/// One section as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// The version that saved it.
    pub version: u16,
    /// Its encoding.
    pub bytes: Vec<u8>,
}

/// A `state` file in parts. All may be changed, to something impossible too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The format version of the header.
    pub format: u16,
    /// The architecture's number.
    pub architecture: u16,
    /// The sections, in order.
    pub sections: Vec<Section>,
}

impl State {
    /// Of an image, which must be sound.
    pub fn of(image: &Image) -> Self {
        let file = std::fs::read(image.state()).expect("an image has a state");
        let header = Header::parse(&file).expect("a sound header");
        let entries = parse_table(&file, &header).expect("a sound table");
        let section = |entry: snapshot_format::section::Entry| Section {
            bytes: file[entry.bytes.clone()].to_vec(),
            name: entry.name,
            version: entry.version,
        };
        let architecture = header.architecture as u16;
        Self { format: FORMAT_VERSION, architecture, sections: entries.into_iter().map(section).collect() }
    }

    /// A section.
    #[track_caller]
    pub fn section(&mut self, name: &str) -> &mut Section {
        let found = self.sections.iter_mut().find(|section| section.name == name);
        found.unwrap_or_else(|| panic!("the image has no section `{name}`"))
    }

    /// What a section says.
    #[track_caller]
    pub fn value<T: Saved>(&mut self, name: &str) -> T {
        let section = self.section(name);
        codec::decode(&section.bytes, section.version, T::PARTS).expect("a sound section")
    }

    /// The same without a section.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.sections.retain(|section| section.name != name);
        self
    }

    /// The same with a section's value changed.
    #[must_use]
    #[track_caller]
    pub fn edit<T: Saved>(mut self, name: &str, change: impl FnOnce(&mut T)) -> Self {
        let mut value: T = self.value(name);
        change(&mut value);
        let section = self.section(name);
        section.bytes =
            codec::encode(&value, section.version, T::PARTS).expect("a value that can be written");
        self
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&self.format.to_le_bytes());
        file.extend_from_slice(&self.architecture.to_le_bytes());
        file.extend_from_slice(&(self.sections.len() as u32).to_le_bytes());
        file.resize(HEADER_BYTES, 0);
        let mut offset = HEADER_BYTES + ENTRY_BYTES * self.sections.len();
        for section in &self.sections {
            let start = file.len();
            file.extend_from_slice(section.name.as_bytes());
            file.resize(start + NAME_BYTES, 0);
            file.extend_from_slice(&section.version.to_le_bytes());
            file.resize(start + NAME_BYTES + 8, 0);
            file.extend_from_slice(&(offset as u64).to_le_bytes());
            file.extend_from_slice(&(section.bytes.len() as u64).to_le_bytes());
            offset += section.bytes.len();
        }
        for section in &self.sections {
            file.extend_from_slice(&section.bytes);
        }
        file.resize(file.len() + CHECKSUM_BYTES, 0);
        reseal::length_and_checksum_of(&mut file);
        file
    }

    /// An image at `path` with this state and the memory of `image`.
    pub fn with_memory_of(&self, image: &Image, path: PathBuf) -> Image {
        image.with_state(path, &self.bytes())
    }
}
