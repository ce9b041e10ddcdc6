//! Results as text, for a terminal and as Markdown.

use std::fmt::Write as _;

use crate::results::{Group, Results, Series, Unit};

#[cfg(test)]
#[path = "render_test.rs"]
mod render_test;

/// How tables look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Aligned columns.
    Plain,
    /// GitHub's tables.
    Markdown,
}

/// The heads of a group's columns.
const HEADS: [&str; 5] = ["", "median", "p99", "min", "n"];

/// All of it.
pub fn render(results: &Results, style: Style) -> String {
    let mut text = String::new();
    for group in &results.groups {
        add_group(&mut text, group, style);
    }
    if !results.not_measured.is_empty() {
        title(&mut text, "Not measured", style);
    }
    for what in &results.not_measured {
        line(&mut text, what, style);
    }
    title(&mut text, "Conditions", style);
    for (name, value) in results.conditions.pairs() {
        line(&mut text, &format!("{name}: {value}"), style);
    }
    for caution in results.conditions.cautions() {
        line(&mut text, &format!("caution: {caution}"), style);
    }
    text
}

fn add_group(text: &mut String, group: &Group, style: Style) {
    title(text, group.title, style);
    push(text, &format!("{}\n", group.boundary));
    let rows: Vec<_> = group.series.iter().map(row).collect();
    let heads = HEADS.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&heads]).map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    add_row(text, &heads, &widths, style);
    if style == Style::Markdown {
        push(text, "|---|--:|--:|--:|--:|");
    }
    for row in &rows {
        add_row(text, row, &widths, style);
    }
}

fn row(series: &Series) -> [String; 5] {
    let Series { name, unit, summary, samples: _ } = series;
    let [median, p99, min] = [summary.median, summary.p99, summary.min].map(|value| show(value, *unit));
    [name.clone(), median, p99, min, summary.n.to_string()]
}

fn add_row(text: &mut String, row: &[String; 5], widths: &[usize; 5], style: Style) {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
        0 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    let cells: Vec<_> = cells.collect();
    match style {
        Style::Plain => push(text, cells.join("  ").trim_end()),
        Style::Markdown => push(text, &format!("| {} |", cells.join(" | "))),
    }
}

fn title(text: &mut String, title: &str, style: Style) {
    match style {
        Style::Plain => push(text, &format!("\n{title}")),
        Style::Markdown => push(text, &format!("\n### {title}\n")),
    }
}

fn line(text: &mut String, line: &str, style: Style) {
    let indent = if style == Style::Markdown { "- " } else { "  " };
    push(text, &format!("{indent}{line}"));
}

fn push(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes all that is written to it");
}

/// A value with its unit, to three or four digits.
fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Us if value < 1000.0 => format!("{value:.0} us"),
        Unit::Us => format!("{:.2} ms", value / 1e3),
        Unit::Percent => format!("{value:.2} %"),
        Unit::Bytes => format!("{:.2} MiB", value / f64::from(1 << 20)),
    }
}
