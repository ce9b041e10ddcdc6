//! The report for a person.

use std::fmt::Write;

use super::super::exit::printable;
use super::checks::{Check, Report, State};

/// One line per check, and what to change below it.
pub(super) fn human(report: &Report) -> String {
    let mut text = String::new();
    for Check { name, state, found, change } in &report.checks {
        let word = match state {
            State::Ok => "ok",
            State::Degraded => "degraded",
            State::Missing => "missing",
        };
        line(&mut text, format_args!("{word:<8}  {name:<21}  {found}"));
        if let Some(change) = change {
            line(&mut text, format_args!("{:<8}  {:<21}  change: {change}", "", ""));
        }
    }
    let verdict =
        if report.can_run { "guests can run on this host" } else { "no guest can run on this host" };
    line(&mut text, format_args!("{verdict}"));
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{}", printable(&line.to_string())).expect("a String takes what it is given");
}
