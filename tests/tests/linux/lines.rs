//! What the guest's lines say.

use std::time::Duration;

/// Readings of the guest's clocks, taken one right after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// `CLOCK_MONOTONIC`.
    pub(crate) mono: Duration,
    /// `CLOCK_BOOTTIME`.
    pub(crate) boot: Duration,
    /// `CLOCK_REALTIME`, since 1970.
    pub(crate) real: Duration,
    /// What `date` says, which is run after them.
    pub(crate) date: Duration,
}

impl Clocks {
    pub(crate) fn of(line: &str) -> Self {
        let ns = |name| Duration::from_nanos(number(line, name));
        let date = Duration::from_secs(number(line, "date"));
        Self { mono: ns("mono"), boot: ns("boot"), real: ns("real"), date }
    }
}

/// One line of the count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) n: u64,
    pub(crate) clocks: Clocks,
    pub(crate) sum: Option<String>,
}

impl Count {
    /// Of what follows the word `count`.
    pub(crate) fn of(line: &str) -> Self {
        let n = line.split(' ').next().and_then(|word| word.parse().ok());
        let n = n.unwrap_or_else(|| panic!("`{line}` does not begin with a number"));
        Self { n, clocks: Clocks::of(line), sum: field(line, "sum").map(str::to_owned) }
    }

    /// All whole ones on a console.
    pub(crate) fn all(console: &str) -> Vec<Self> {
        whole_lines(console).filter_map(|line| line.strip_prefix("count ")).map(Self::of).collect()
    }
}

/// One line of the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    /// How often a clock was read that was behind an earlier reading, on whatever CPU.
    pub(crate) back: u64,
    /// Rounds of each CPU so far.
    pub(crate) rounds: Vec<u64>,
}

impl Watch {
    /// Of what follows the word `watch`.
    pub(crate) fn of(line: &str) -> Self {
        Self { back: number(line, "back"), rounds: per_cpu(line) }
    }
}

/// The values of `cpu0=`, `cpu1=` and so on.
pub(crate) fn per_cpu(line: &str) -> Vec<u64> {
    (0..)
        .map_while(|cpu| field(line, &format!("cpu{cpu}")))
        .map(|value| value.parse().expect("a number"))
        .collect()
}

/// All lines but the last, which may go on.
pub(crate) fn whole_lines(console: &str) -> impl Iterator<Item = &str> {
    let end = console.rfind('\n').unwrap_or(0);
    console[..end].lines().map(str::trim_end)
}

fn number(line: &str, name: &str) -> u64 {
    let value = field(line, name).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("`{line}` has no number `{name}`"))
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}
