//! The house rules that no compiler or clippy lint knows: each a function from a source file to what is wrong
//! in it.

use super::source::{Kind, Source, Token};

#[cfg(test)]
#[path = "lints_test.rs"]
mod lints_test;

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what is right instead.
    pub what: String,
}

/// A rule.
type Rule = fn(&Source) -> Vec<Finding>;

const RULES: [Rule; 9] = [
    unsafe_in_sys,
    rest_in_saved,
    wall_clock,
    randomness,
    codec,
    module_edges,
    printing,
    anyhow_in_libraries,
    proportion,
];

/// How many code lines a file may have.
const MAX_CODE_LINES: usize = 600;

/// Everything wrong in one file, in the order of its lines.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(source)).collect();
    findings.sort_by_key(|finding| finding.line);
    findings
}

/// Unsafe code lives in `sys`, or in spark, which is bare metal throughout.
fn unsafe_in_sys(source: &Source) -> Vec<Finding> {
    let allowed =
        in_directory(source, "sys") || source.path.ends_with("/sys.rs") || in_directory(source, "spark");
    let found = source.words(&["unsafe"]).filter(|_| !allowed);
    found.map(|(line, _)| finding(line, "unsafe code belongs in `sys`")).collect()
}

/// In `saved.rs` a pattern with `..`, or a struct filled up by `..`, would let a new field be forgotten.
fn rest_in_saved(source: &Source) -> Vec<Finding> {
    if !source.path.ends_with("/saved.rs") {
        return Vec::new();
    }
    let is_dot = |token: &Token| token.kind == Kind::Sign('.');
    let opens = |token: &Token| matches!(token.kind, Kind::Sign('{' | '(' | ',' | '|'));
    let found = source.tokens.windows(3).filter(|w| opens(&w[0]) && is_dot(&w[1]) && is_dot(&w[2]));
    found
        .map(|w| finding(w[1].line, "no `..` here: name every field, so that a new one is not forgotten"))
        .collect()
}

/// Only `clock.rs` reads wall time: restore has to adjust all that anybody has read. Monotonic time is
/// anybody's.
fn wall_clock(source: &Source) -> Vec<Finding> {
    if !is_product(source) || is_test(source) || source.path.ends_with("/clock.rs") {
        return Vec::new();
    }
    let now = source.sequences(&["SystemTime", ":", ":", "now"]);
    let elapsed = source.sequences(&["UNIX_EPOCH", ".", "elapsed"]);
    let raw = source.words(&["CLOCK_REALTIME"]).map(|(line, _)| line);
    let found = now.chain(elapsed).chain(raw);
    found.map(|line| finding(line, "wall time is read in `clock.rs` only")).collect()
}

/// Clones that share random numbers share secrets: only `device/identity` makes any, and the entropy device passes the
/// host's on to the guest without keeping any.
fn randomness(source: &Source) -> Vec<Finding> {
    let sources = ["/device/identity", "/device/virtio/rng/"];
    let allowed =
        !is_product(source) || is_test(source) || sources.iter().any(|place| source.path.contains(place));
    let found = source.words(&["getrandom", "fastrand", "OsRng", "thread_rng"]).filter(|_| !allowed);
    found
        .map(|(line, word)| finding(line, format!("`{word}`: random numbers come from `device/identity`")))
        .collect()
}

/// The codec's crates are named in one module, so that they can be replaced there. The checksum has a second
/// use there, which the format defines.
fn codec(source: &Source) -> Vec<Finding> {
    let of_format = source.path.starts_with("snapshot-format/");
    let is_codec = of_format && (source.path.ends_with("/src/codec.rs") || in_directory(source, "codec"));
    let found = source.words(&["versionize", "versionize_derive", "bincode", "crc64"]);
    let found = found.filter(|(_, word)| !(is_codec || of_format && *word == "crc64"));
    found
        .map(|(line, word)| finding(line, format!("`{word}` is known to `snapshot_format::codec` only")))
        .collect()
}

/// The arrows between the vmm's modules that must not be drawn.
fn module_edges(source: &Source) -> Vec<Finding> {
    let Some(module) = source.path.strip_prefix("vmm/src/").and_then(|rest| rest.split(['/', '.']).next())
    else {
        return Vec::new();
    };
    let forbidden: &[&str] = match module {
        "restore" => &["boot"],
        "boot" => &["restore"],
        "device" | "vcpu" | "irq" | "memory" => &["snapshot", "restore", "machine", "cli"],
        _ => &[],
    };
    let found = source.crate_modules().into_iter().filter(|(_, to)| forbidden.contains(to));
    found.map(|(line, to)| finding(line, format!("`{module}` must not know `{to}`"))).collect()
}

/// A library speaks through what it returns, and through tracing.
fn printing(source: &Source) -> Vec<Finding> {
    if !is_library(source) {
        return Vec::new();
    }
    let macros = ["print", "println", "eprint", "eprintln"];
    let pairs = source.tokens.windows(2).filter(|pair| pair[1].kind == Kind::Sign('!'));
    let found = pairs.filter_map(|pair| Some((pair[0].line, pair[0].word()?)));
    let found = found.filter(|(_, word)| macros.contains(word));
    found.map(|(line, word)| finding(line, format!("`{word}!` in a library"))).collect()
}

/// A library's errors are types.
fn anyhow_in_libraries(source: &Source) -> Vec<Finding> {
    let found = source.words(&["anyhow"]).filter(|_| is_library(source));
    found.map(|(line, _)| finding(line, "`anyhow` in a library: errors are types here")).collect()
}

/// A file is one idea, and says first which.
fn proportion(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    // A crate may open with the document that specifies it.
    let opens = ["//!", "#![doc = include_str!("].iter().any(|opening| source.text.starts_with(opening));
    if !opens && !is_test(source) {
        findings.push(finding(1, "a module begins with `//!`: what it owns, what it refuses to know"));
    }
    let lines = source.code_lines();
    if lines > MAX_CODE_LINES {
        findings.push(finding(1, format!("{lines} code lines, at most {MAX_CODE_LINES}: split it by idea")));
    }
    findings
}

fn finding(line: usize, what: impl Into<String>) -> Finding {
    Finding { line, what: what.into() }
}

fn in_directory(source: &Source, name: &str) -> bool {
    let mut parts = source.path.split('/').rev().skip(1);
    parts.any(|part| part == name)
}

fn is_test(source: &Source) -> bool {
    source.path.ends_with("_test.rs")
}

/// Code that users run.
fn is_product(source: &Source) -> bool {
    let crates = ["vmm/src/", "snapshot-format/src/", "page-server/src/"];
    crates.iter().any(|prefix| source.path.starts_with(prefix))
}

/// Code that other programs link.
fn is_library(source: &Source) -> bool {
    let binary =
        source.path.ends_with("/src/main.rs") || in_directory(source, "cli") || in_directory(source, "bin");
    is_product(source) && !binary && !is_test(source)
}
