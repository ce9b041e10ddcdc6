//! Runs other programs, and says which one failed and how.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};

/// The command line as a person would type it, for messages.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs to the end with our standard streams; how it ended.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot run `{}`", shown(command)))
}

/// Runs to the end with our standard streams; an error unless it succeeds.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs to the end and returns its standard output; its standard error is shown only when it fails.
pub fn output(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(command)?).into_owned())
}

/// As [`output`], where that is not text.
pub fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let out =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("`{}` failed: {}\n{}", shown(command), out.status, said.trim_end());
    }
    Ok(out.stdout)
}

/// Decompresses XZ to its standard output. The real one: busybox's does not undo the filter that kernels are
/// packed with.
pub fn unxz() -> Command {
    let mut command = Command::new("xz");
    command.args(["--decompress", "--stdout", "--format=xz"]);
    command
}

/// The program's path, if `PATH` or one of the system's own directories has it.
pub fn find(program: impl AsRef<Path>) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program.as_ref()))
        .find(|candidate| candidate.is_file())
}
