//! Exit codes, and how a failure looks on the terminal.

use std::io::Write;
use std::process::ExitCode;

use vmm::control::print_chain;

/// The documented exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The command could not be carried out.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The image is damaged, or not an image.
    Damaged = 3,
    /// This host or this build cannot run the image or the guest.
    Unsupported = 4,
    /// The guest failed: triple fault, panic, no readiness in time, a page of its memory that cannot be had.
    GuestFailed = 5,
}

/// The end of every `--help`.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  bad usage
  3  the image is damaged or not an image
  4  this host or build cannot run the image
  5  the guest failed (triple fault, panic, not ready in time, memory lost)";

impl Exit {
    /// The code that a VM sent with its fault.
    pub(super) fn from_code(code: u8) -> Self {
        match code {
            2 => Self::Usage,
            3 => Self::Damaged,
            4 => Self::Unsupported,
            5 => Self::GuestFailed,
            _ => Self::Failed,
        }
    }
}

/// An error with what it means to a script and to a person.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(super) exit: Exit,
    pub(super) error: anyhow::Error,
    pub(super) hint: Option<String>,
}

impl Failure {
    /// Prints it to stderr; gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // A terminal that has gone is no reason to fail in another way.
        let _ = std::io::stderr().lock().write_all((self.render() + "\n").as_bytes());
        ExitCode::from(self.exit as u8)
    }

    /// `error: ..`, its causes and the hint, a line each.
    pub(super) fn render(&self) -> String {
        let mut text = format!("error: {}", print_chain(self.error.as_ref()));
        if let Some(hint) = &self.hint {
            text.push_str("\n  hint: ");
            text.push_str(hint);
        }
        printable(&text)
    }
}

/// Text that may hold bytes of an image, a guest or a socket, with what would steer a terminal made visible.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}
