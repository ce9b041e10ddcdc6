//! `rekindle-pages top`: what a server's metrics say, as a table that is drawn anew.

#[cfg(test)]
#[path = "top_test.rs"]
mod top_test;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::args::TopArgs;

/// The most bytes of an answer.
const MAX_ANSWER: u64 = 64 << 20;
/// Clears a terminal and goes to its first line (ECMA-48, ED and CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// By metric, then by session.
type Numbers = BTreeMap<String, BTreeMap<String, f64>>;

/// Draws until the server goes, or once. Control codes go to a terminal only.
pub(super) fn run(args: &TopArgs) -> Result<()> {
    let mut before = numbers(&args.metrics)?;
    if args.once {
        return draw(&table(&before, &Numbers::new(), None));
    }
    loop {
        thread::sleep(args.interval);
        let now = numbers(&args.metrics)?;
        draw(&anew(&table(&now, &before, Some(args.interval)), std::io::stdout().is_terminal()))?;
        before = now;
    }
}

/// A table in the place of the last one: a terminal is cleared first; in a pipe or a file a blank line comes between them.
fn anew(table: &str, is_terminal: bool) -> String {
    if is_terminal { format!("{CLEAR}{table}") } else { format!("{table}\n") }
}

fn draw(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to stdout")
}

/// Asks the server.
fn numbers(path: &Path) -> Result<Numbers> {
    let asked = || format!("cannot ask the server at `{}`", path.display());
    let mut socket = UnixStream::connect(path).with_context(asked)?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).with_context(asked)?;
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: pages\r\nConnection: close\r\n\r\n")
        .with_context(asked)?;
    let mut answer = String::new();
    socket.take(MAX_ANSWER).read_to_string(&mut answer).with_context(asked)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "`{}` is no metrics socket", path.display());
    Ok(parse(&answer))
}

/// Reads `rekindle_pages_NAME{session="N",..} VALUE`. Of the histogram, the buckets are added up by bound under their
/// session: `NAME le` is the number of faults that took no longer.
fn parse(text: &str) -> Numbers {
    let mut numbers = Numbers::new();
    for line in text.lines() {
        let Some((left, value)) = line.rsplit_once(' ') else { continue };
        let Some(left) = left.strip_prefix("rekindle_pages_") else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, labels) = left.split_once('{').unwrap_or((left, ""));
        let label = |wanted: &str| {
            let start = labels.find(&format!("{wanted}=\""))? + wanted.len() + 2;
            labels[start..].split('"').next()
        };
        let name = match label("le") {
            Some(bound) => format!("{name} {bound}"),
            None => name.to_owned(),
        };
        // Sessions that have ended are added up by image; all of them are one line here.
        let session = label("session").unwrap_or_default().to_owned();
        *numbers.entry(name).or_default().entry(session).or_default() += value;
    }
    numbers
}

/// A line for each session; with `interval`, rates since `before`.
fn table(now: &Numbers, before: &Numbers, interval: Option<Duration>) -> String {
    let get = |numbers: &Numbers, name: &str, session: &str| {
        numbers.get(name).and_then(|sessions| sessions.get(session)).copied().unwrap_or(0.0)
    };
    let count = |name: &str| get(now, name, "");
    let mut text = format!(
        "{} VMs served, {} in all, {} refused, {} lost a page\n\n",
        count("sessions"),
        count("sessions_total"),
        count("refused_total"),
        count("lost_total")
    );
    let per = if interval.is_some() { "/s" } else { "" };
    let heads =
        ["session", "faults", "p50 us", "p99 us", "MiB", "zero MiB", "ahead MiB", "late MiB", "set faults"];
    for (column, head) in heads.iter().enumerate() {
        let head =
            if column == 1 || (4..8).contains(&column) { format!("{head}{per}") } else { (*head).to_owned() };
        let _ = write!(text, "{head:>13}");
    }
    text.push('\n');
    let sessions = now.get("faults_total").map(|sessions| sessions.keys().cloned().collect::<Vec<_>>());
    for session in sessions.unwrap_or_default() {
        let seconds = interval.map_or(1.0, |interval| interval.as_secs_f64());
        let rate = |name: &str| (get(now, name, &session) - get(before, name, &session)) / seconds;
        let mib = |name: &str| rate(name) / f64::from(1 << 20);
        let quantile =
            |q: f64| quantile(now, before, &session, q).map_or("-".to_owned(), |us| format!("{us:.0}"));
        let _ = writeln!(
            text,
            "{session:>13}{:>13.0}{:>13}{:>13}{:>13.1}{:>13.1}{:>13.1}{:>13.1}{:>13.0}",
            rate("faults_total"),
            quantile(0.5),
            quantile(0.99),
            mib("copied_bytes_total"),
            mib("zeroed_bytes_total"),
            mib("prefetched_bytes_total"),
            mib("prefetch_late_bytes_total"),
            get(now, "set_faults_total", &session),
        );
    }
    text
}

/// The upper bound, in microseconds, of the bucket in which the quantile lies, of the faults since `before`.
fn quantile(now: &Numbers, before: &Numbers, session: &str, q: f64) -> Option<f64> {
    let since = |name: &str| {
        let of = |numbers: &Numbers| numbers.get(name).and_then(|s| s.get(session)).copied().unwrap_or(0.0);
        of(now) - of(before)
    };
    let bound = |name: &str| name.strip_prefix("fault_seconds_bucket ")?.parse::<f64>().ok();
    let mut buckets: Vec<(f64, f64)> =
        now.keys().filter_map(|name| Some((bound(name)?, since(name)))).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = buckets.last()?.1;
    let found = buckets.iter().find(|(_, count)| all > 0.0 && *count >= q * all)?;
    Some(found.0 * 1e6)
}
