//! The checks themselves, each a function that prints what is wrong and returns a verdict.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::lints::{self, Finding};
use super::source::Source;
use super::{Verdict, edges, text};
use crate::debian::packages::{self, CXX};
use crate::{place, process, test};

/// Reads licences, duplicates and sources of all dependencies. Pinned: a new version may judge differently.
const CARGO_DENY: (&str, &str) = ("cargo-deny", "0.20.2");
/// How long each fuzz target runs, in seconds.
const FUZZ_SECONDS: u32 = 20;

/// Formatting.
pub fn fmt() -> Result<Verdict> {
    cargo(&["fmt", "--all", "--check"])
}

/// Clippy on everything, warnings being errors.
pub fn clippy() -> Result<Verdict> {
    cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])
}

/// The vmm library as others link it: without the command line.
pub fn library() -> Result<Verdict> {
    cargo(&[
        "clippy",
        "--quiet",
        "--package",
        "vmm",
        "--lib",
        "--no-default-features",
        "--",
        "--deny",
        "warnings",
    ])
}

/// Documentation, broken links being errors.
pub fn doc() -> Result<Verdict> {
    let mut command = Command::new("cargo");
    command.args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings");
    verdict_of(&mut command)
}

/// The unit tests.
pub fn unit() -> Result<Verdict> {
    test::unit_tests().map(|ran| Verdict::of(ran.ok))
}

/// The house rules for Rust sources.
pub fn lints() -> Result<Verdict> {
    each_file(".rs", |path, text| Ok(lints::check(&Source::parse(path, text)?)))
}

/// The house rules for all text. Lock files are not written by hand.
pub fn text() -> Result<Verdict> {
    let workspace = place::workspace().display().to_string();
    each_file("", |path, text| {
        Ok(if path.ends_with(".lock") { Vec::new() } else { text::check(path, text, &workspace) })
    })
}

/// The dependencies between crates.
pub fn edges() -> Result<Verdict> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    let metadata =
        serde_json::from_str(&process::output(&mut command)?).context("cannot read cargo's metadata")?;
    let violations = edges::violations(&metadata);
    for violation in &violations {
        println!("{violation}");
    }
    Ok(Verdict::of(violations.is_empty()))
}

/// Licences, bans and sources of the dependencies, by `deny.toml`.
pub fn deny() -> Result<Verdict> {
    verdict_of(cargo_deny()?.args(["check", "bans", "licenses", "sources"]))
}

/// Security advisories on the dependencies, where the database can be fetched.
pub fn advisories() -> Result<Verdict> {
    if let Err(why) = process::output(cargo_deny()?.args(["fetch", "db"])) {
        eprintln!("{why:#}");
        return Ok(Verdict::Skipped("the advisory database cannot be fetched".to_owned()));
    }
    verdict_of(cargo_deny()?.args(["check", "--disable-fetch", "advisories"]))
}

/// Each fuzz target for a bounded time: `tests/fuzz/run TARGET SECONDS`, which knows how it is built and from
/// what seeds.
pub fn fuzz() -> Result<Verdict> {
    let dir = place::workspace().join("tests/fuzz");
    packages::ensure(&[CXX])?;
    let mut holds = true;
    for target in fs::read_dir(dir.join("fuzz_targets")).context("cannot list the fuzz targets")? {
        let path = target.context("cannot list the fuzz targets")?.path();
        let name = path.file_stem().context("a fuzz target has a name")?;
        let mut command = Command::new(dir.join("run"));
        command.arg(name).arg(FUZZ_SECONDS.to_string());
        // Its flags are not ours: in one directory, each build would undo the other's.
        command.env("CARGO_TARGET_DIR", place::target().join("fuzz"));
        holds &= verdict_of(&mut command)? == Verdict::Passed;
    }
    Ok(Verdict::of(holds))
}

/// cargo-deny, built unless it is there: the user's own if it has the pinned version, else in the build
/// directory.
fn cargo_deny() -> Result<Command> {
    let (name, version) = CARGO_DENY;
    let ours = place::tools().join("bin").join(name);
    let is_pinned = |program: &Path| {
        let said = process::output(Command::new(program).arg("--version")).unwrap_or_default();
        said.split_whitespace().nth(1) == Some(version)
    };
    let found = process::find(name).filter(|program| is_pinned(program));
    let program = match found {
        Some(program) => program,
        None if is_pinned(&ours) => ours,
        None => {
            eprintln!("building {name} {version}");
            let mut install = Command::new("cargo");
            install.args(["install", "--quiet", "--locked", "--version", version, name]);
            // Unoptimised it is fast enough and built in half the time. Elsewhere, so that this workspace's
            // flags for its own programs do not apply.
            install.arg("--debug").arg("--root").arg(place::tools()).current_dir("/");
            let build = place::tools().join("build");
            process::run(install.env("CARGO_TARGET_DIR", &build))?;
            fs::remove_dir_all(&build).context("cannot remove what is left of building cargo-deny")?;
            ours
        }
    };
    let mut command = Command::new(program);
    command.current_dir(place::workspace());
    Ok(command)
}

/// Prints what `check` finds in each file whose name ends in `suffix`, and that git knows or would.
fn each_file(suffix: &str, check: impl Fn(&str, &str) -> Result<Vec<Finding>>) -> Result<Verdict> {
    let mut list = Command::new("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(place::workspace());
    let mut holds = true;
    for path in process::output(&mut list)?.lines().filter(|path| path.ends_with(suffix)) {
        let bytes = match fs::read(place::workspace().join(path)) {
            Ok(bytes) => bytes,
            // Removed, but not yet from git's index.
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
            Err(why) => return Err(why).with_context(|| format!("cannot read {path}")),
        };
        // What is not text is not read.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for Finding { line, what } in check(path, &text)? {
            println!("{path}:{line}: {what}");
            holds = false;
        }
    }
    Ok(Verdict::of(holds))
}

fn cargo(args: &[&str]) -> Result<Verdict> {
    verdict_of(Command::new("cargo").args(args))
}

fn verdict_of(command: &mut Command) -> Result<Verdict> {
    process::status(command).map(|status| Verdict::of(status.success()))
}
