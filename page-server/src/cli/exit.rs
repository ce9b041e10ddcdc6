//! Exit codes, and how a failure looks on the terminal. The codes are those of `rekindle`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use page_server::{image, server, socket};
use snapshot_format::ErrorKind;

use super::catalogue::Contradiction;

/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;

const FAILED: u8 = 1;
const DAMAGED: u8 = 3;
const UNSUPPORTED: u8 = 4;

/// A file that is to be written is one of those that are served.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is part of what is served, which is never written", path.display())]
pub(super) struct PartOfImage {
    /// The file.
    pub(super) path: PathBuf,
}

/// The end of every `--help`.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done: told to end, and every VM has all its pages
  1  failed; or told to end, and a VM has not been given all its pages
  2  bad usage
  3  an image is damaged or not an image
  4  this build cannot serve an image";

/// Prints an error, its causes and what can be done about it; gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let (code, hint) = classify(error);
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    if let Some(hint) = hint {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    // What an image says may be meant to steer a terminal.
    let text: String = text
        .chars()
        .map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(code)
}

fn classify(error: &anyhow::Error) -> (u8, Option<&'static str>) {
    if let Some(error) = error.downcast_ref::<image::Error>() {
        return match error.kind() {
            ErrorKind::NotAnImage | ErrorKind::Damaged | ErrorKind::MissingSection => (
                DAMAGED,
                Some("`rekindle verify IMAGE` says more; take another copy of it, or bake it again"),
            ),
            ErrorKind::Unsupported | ErrorKind::WrongArchitecture | ErrorKind::UnknownSection => {
                (UNSUPPORTED, Some("`rekindle inspect IMAGE` shows who wrote it"))
            }
            ErrorKind::Refused | ErrorKind::Io => {
                (FAILED, Some("check the path, and that you may read it and search every directory above it"))
            }
        };
    }
    if let Some(error) = error.downcast_ref::<socket::Error>() {
        let hint = match error {
            socket::Error::InUse { .. } => "give another path, or end the other server",
            socket::Error::NotASocket { .. } => "remove it, or give another path",
            socket::Error::Listen { .. } => {
                "the directory must exist and be writable, and the path be at most 107 bytes long"
            }
        };
        return (FAILED, Some(hint));
    }
    if let Some(server::Error::NotDrained { .. }) = error.downcast_ref() {
        return (FAILED, Some("raise --drain-timeout; VMs of ours look for another server on the same path"));
    }
    if error.is::<Contradiction>() {
        return (
            USAGE,
            Some("`--socket PATH IMAGE..` serves all images there, `--socket PATH=IMAGE` one alone"),
        );
    }
    if error.is::<PartOfImage>() {
        return (USAGE, Some("give another path"));
    }
    (FAILED, None)
}
