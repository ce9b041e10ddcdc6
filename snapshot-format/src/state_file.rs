//! The `state` file as a whole: sections in, bytes out, and back.
//!
//! Total in both directions: a section that nobody takes is an error of [`StateReader::finish`], and one that is asked
//! for and absent is an error of [`StateReader::take`]. Does no I/O, and does not know what any section means.

use crate::codec;
use crate::error::Error;
use crate::header::{
    Architecture, CHECKSUM_BYTES, FORMAT_VERSION, HEADER_BYTES, Header, MAX_STATE_BYTES, checksum,
};
use crate::section::{self, ENTRY_BYTES, Entry, MAX_SECTIONS, Saved, TableError};

#[cfg(test)]
#[path = "state_file_test.rs"]
mod state_file_test;

/// Collects sections, then makes the file's bytes of them. Refuses whatever [`StateReader`] would refuse.
#[derive(Debug)]
pub struct StateWriter {
    architecture: Architecture,
    /// Names are valid and unique; there are at most `MAX_SECTIONS`.
    sections: Vec<(String, u16, Vec<u8>)>,
}

impl StateWriter {
    /// A file without sections.
    pub fn new(architecture: Architecture) -> Self {
        Self { architecture, sections: Vec::new() }
    }

    /// Adds `state` as section `name`, in the current version of its kind.
    ///
    /// # Errors
    /// The name is not one of the kind or was added before, the state is longer than the codec allows, or there are
    /// too many sections.
    pub fn add<T: Saved>(&mut self, name: &str, state: &T) -> Result<(), Error> {
        check_name::<T>(name)?;
        if self.sections.iter().any(|(added, ..)| added == name) {
            return Err(misnamed::<T>(name, TableError::Duplicate(name.to_owned())));
        }
        if self.sections.len() == MAX_SECTIONS {
            return Err(Error::TooManySections { count: MAX_SECTIONS as u64 + 1, max: MAX_SECTIONS });
        }
        let version = T::KIND.current;
        let bytes = codec::encode(state, version, T::PARTS)
            .map_err(|source| Error::Encode { section: name.to_owned(), source })?;
        self.sections.push((name.to_owned(), version, bytes));
        Ok(())
    }

    /// The whole file: header, table, sections in the order in which they were added, checksum.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let table_end = HEADER_BYTES + self.sections.len() * ENTRY_BYTES;
        let len =
            table_end + self.sections.iter().map(|(.., bytes)| bytes.len()).sum::<usize>() + CHECKSUM_BYTES;
        if len as u64 > MAX_STATE_BYTES {
            return Err(Error::TooLarge { max: MAX_STATE_BYTES });
        }
        let header = Header {
            format_version: FORMAT_VERSION,
            architecture: self.architecture,
            sections: self.sections.len() as u32,
            file_len: len as u64,
        };
        let mut file = Vec::with_capacity(len);
        file.extend_from_slice(&header.to_bytes());
        let mut start = table_end;
        for (name, version, bytes) in &self.sections {
            let entry = Entry { name: name.clone(), version: *version, bytes: start..start + bytes.len() };
            file.extend_from_slice(&section::entry_bytes(&entry));
            start += bytes.len();
        }
        for (.., bytes) in &self.sections {
            file.extend_from_slice(bytes);
        }
        file.extend_from_slice(&checksum(&file).to_le_bytes());
        Ok(file)
    }
}

/// A `state` file whose header, table and checksum are good, and whose sections are waiting to be taken.
#[derive(Debug)]
pub struct StateReader<'file> {
    file: &'file [u8],
    header: Header,
    /// Names are unique; ranges lie within `file` and do not overlap.
    table: Vec<Entry>,
    /// One for each entry of `table`.
    taken: Vec<bool>,
}

impl<'file> StateReader<'file> {
    /// Reads header and table; decodes no section.
    ///
    /// Sections of unknown kinds and newer versions are not refused here, so that an image can be listed by a build
    /// that cannot run it.
    pub fn parse(file: &'file [u8]) -> Result<Self, Error> {
        let header = Header::parse(file)?;
        let table = section::parse_table(file, &header)?;
        let taken = vec![false; table.len()];
        Ok(Self { file, header, table, taken })
    }

    /// What the header says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The section table, in the file's order.
    pub fn sections(&self) -> &[Entry] {
        &self.table
    }

    /// Whether there is a section of that name, taken or not.
    pub fn contains(&self, name: &str) -> bool {
        self.table.iter().any(|entry| entry.name == name)
    }

    /// Decodes section `name`, upgrading it from the version by which it was saved.
    ///
    /// # Errors
    /// It is missing, of a version that this build does not read, damaged, taken before, or `name` is not one of the
    /// type's kind.
    pub fn take<T: Saved>(&mut self, name: &str) -> Result<T, Error> {
        check_name::<T>(name)?;
        let Some(index) = self.table.iter().position(|entry| entry.name == name) else {
            return Err(Error::MissingSection { section: name.to_owned() });
        };
        if self.taken[index] {
            return Err(misnamed::<T>(name, TableError::Duplicate(name.to_owned())));
        }
        let Entry { version, bytes, .. } = &self.table[index];
        let (saved, oldest, current) = (*version, T::KIND.oldest, T::KIND.current);
        if saved < oldest || saved > current {
            return Err(Error::SectionVersion { section: name.to_owned(), saved, oldest, current });
        }
        let state = codec::decode(&self.file[bytes.clone()], saved, T::PARTS)
            .map_err(|source| Error::Decode { section: name.to_owned(), saved, source })?;
        self.taken[index] = true;
        Ok(state)
    }

    /// Call only after everything that has state has taken its section.
    ///
    /// # Errors
    /// A section was never taken: the image holds state that this machine would lose.
    pub fn finish(self) -> Result<(), Error> {
        match self.table.iter().zip(&self.taken).find(|(_, taken)| !**taken) {
            Some((entry, _)) => {
                Err(Error::UnknownSection { section: entry.name.clone(), saved: entry.version })
            }
            None => Ok(()),
        }
    }
}

fn check_name<T: Saved>(name: &str) -> Result<(), Error> {
    if !section::is_name(name) {
        return Err(misnamed::<T>(name, TableError::Name));
    }
    if !T::KIND.owns(name) {
        return Err(misnamed::<T>(name, TableError::Kind));
    }
    Ok(())
}

fn misnamed<T: Saved>(name: &str, source: TableError) -> Error {
    Error::Misnamed { section: name.to_owned(), kind: T::KIND.name, source }
}
