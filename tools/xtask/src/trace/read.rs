//! Reads a trace: CSV with a header, a line for each delivery.

use anyhow::{Context, Result, bail, ensure};

#[cfg(test)]
#[path = "read_test.rs"]
mod read_test;

/// The first line.
const HEADER: &str = "us,what,offset,bytes,took_us";

/// More lines than this make no picture that anybody could read, nor a viewer open.
const MOST: usize = 1_000_000;

/// Times and addresses beyond this are no trace's: a week, and 16 TiB.
const MOST_US: u64 = 7 * 86_400 * 1_000_000;
const MOST_BYTES: u64 = 16 << 40;

/// Why something was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Prefetch,
    Drain,
    Read,
    Write,
}

impl What {
    /// In the order in which they are drawn: what the guest asked for is on top.
    pub(super) const ALL: [Self; 4] = [Self::Prefetch, Self::Drain, Self::Read, Self::Write];

    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "read" => Self::Read,
            "write" => Self::Write,
            "prefetch" => Self::Prefetch,
            "drain" => Self::Drain,
            _ => return None,
        })
    }
}

/// One delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// When it began, in microseconds.
    pub start: u64,
    /// When it was done.
    pub end: u64,
    pub what: What,
    /// In the memory file.
    pub offset: u64,
    pub bytes: u64,
}

/// Every delivery, in the order of the file.
pub(super) fn events(text: &str) -> Result<Vec<Event>> {
    let mut lines = text.lines();
    ensure!(lines.next() == Some(HEADER), "its first line is not `{HEADER}`");
    let mut events = Vec::new();
    for (index, line) in lines.enumerate() {
        ensure!(events.len() < MOST, "it has more than {MOST} lines");
        events.push(event(line).with_context(|| format!("line {}", index + 2))?);
    }
    ensure!(!events.is_empty(), "it has a header and nothing else");
    Ok(events)
}

fn event(line: &str) -> Result<Event> {
    let fields: Vec<&str> = line.split(',').collect();
    let [us, what, offset, bytes, took] = fields[..] else {
        bail!("it has {} fields where there are five", fields.len());
    };
    let end = number("us", us, MOST_US)?;
    let took = number("took_us", took, MOST_US)?;
    let what = What::parse(what)
        .with_context(|| format!("`{}` is not read, write, prefetch or drain", what.escape_debug()))?;
    let (offset, bytes) = (number("offset", offset, MOST_BYTES)?, number("bytes", bytes, MOST_BYTES)?);
    Ok(Event { start: end.saturating_sub(took), end, what, offset, bytes })
}

fn number(name: &str, text: &str, most: u64) -> Result<u64> {
    let value: u64 =
        text.parse().with_context(|| format!("`{}` is no number for {name}", text.escape_debug()))?;
    ensure!(value <= most, "{name} is {value}, more than {most}");
    Ok(value)
}
