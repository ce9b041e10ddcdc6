//! Who may connect to a socket: the mode and the group of its file.

#[cfg(test)]
#[path = "access_test.rs"]
mod access_test;

use std::fs::Permissions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, chownat, fstat, open};

/// Who may connect, which takes the right to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permissions, of which the umask takes nothing away.
    pub mode: u32,
    /// The file's group, if not this process's.
    pub group: Option<u32>,
}

impl Default for Access {
    /// Its owner alone.
    fn default() -> Self {
        Self { mode: 0o600, group: None }
    }
}

impl Access {
    /// What a socket's inode has before it has a file: nobody can connect until the rest is done, for it does not listen yet.
    pub(crate) fn least(self) -> Mode {
        Mode::from_raw_mode(self.mode) & (Mode::RUSR | Mode::WUSR)
    }

    /// Makes the socket's file at `path` so. Call before it listens.
    pub(crate) fn apply(self, path: &Path) -> io::Result<()> {
        if self == Self::default() {
            return Ok(());
        }
        // Whatever has the name by now, what is changed is a socket, and not by way of a link.
        let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
            return Err(io::Error::other("it is no socket any more"));
        }
        if let Some(group) = self.group {
            chownat(&file, c"", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
        }
        // fchmod(2) takes no O_PATH descriptor.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::set_permissions(name, Permissions::from_mode(self.mode))
    }
}

/// The number of a group: its own, or that of a name in `groups`, a file like /etc/group (group(5)).
///
/// # Errors
/// The file cannot be read, or has no such group; or its number is none that a file can be given.
pub fn group(name: &str, groups: &Path) -> io::Result<u32> {
    /// To chown(2), -1 says that the group stays as it is.
    const UNCHANGED: u32 = u32::MAX;
    match number(name, groups)? {
        UNCHANGED => {
            let why = format!("{UNCHANGED} is the number of no group: chown(2) leaves a file as it is");
            Err(io::Error::new(io::ErrorKind::InvalidInput, why))
        }
        number => Ok(number),
    }
}

fn number(name: &str, groups: &Path) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::fs::read(groups)?;
    let text = String::from_utf8_lossy(&text);
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.ok_or_else(|| {
        let why = format!("there is no group `{name}` in `{}`; a number will do as well", groups.display());
        io::Error::new(io::ErrorKind::NotFound, why)
    })
}
