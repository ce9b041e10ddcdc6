//! Draws deliveries as SVG: a box each, from when it began to when it was done, over the addresses that it brought.

use std::fmt::Write as _;

use super::read::{Event, What};

#[cfg(test)]
#[path = "draw_test.rs"]
mod draw_test;

/// The picture, and the part of it that the axes enclose, in pixels.
const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 800.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 1170.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 730.0;

/// What is less than this many pixels wide or high would not be seen.
const LEAST: f64 = 3.0;

const MIB: f64 = 1_048_576.0;

/// About how many lines a grid has in each direction.
const GRID: f64 = 8.0;

/// Name and colour, told apart by the colour-blind as well (Okabe and Ito).
fn style(what: What) -> (&'static str, &'static str) {
    match what {
        What::Prefetch => ("prefetched", "#009e73"),
        What::Drain => ("drained", "#999999"),
        What::Read => ("read fault", "#0072b2"),
        What::Write => ("write fault", "#d55e00"),
    }
}

/// Values of an axis, and the pixels they are at.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    /// From `low` to `high`, in steps of a round number of `unit`s.
    fn new(low: f64, high: f64, unit: f64, binary: bool, (from, to): (f64, f64)) -> Self {
        let least = (high - low).max(unit * 1e-3) / GRID / unit;
        let step = if binary { least.log2().ceil().exp2() } else { round_up(least) } * unit;
        let low = (low / step).floor() * step;
        let high = ((high / step).ceil() * step).max(low + step);
        Self { low, high, from, to, step }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn marks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(|mark| self.low + mark as f64 * self.step)
    }
}

/// The least of 1, 2, 5, 10, .. that is no less.
fn round_up(value: f64) -> f64 {
    let ten = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * ten).find(|round| *round >= value).unwrap_or(10.0 * ten)
}

/// The picture of `events`, of which there is one at least; `name` is its heading.
pub(super) fn svg(events: &[Event], name: &str) -> String {
    let low = events.iter().map(|event| event.offset).min().unwrap_or_default();
    let high = events.iter().map(|event| event.offset + event.bytes).max().unwrap_or_default();
    let begin = events.iter().map(|event| event.start).min().unwrap_or_default();
    let end = events.iter().map(|event| event.end).max().unwrap_or_default();
    let long = end - begin > 2_000_000;
    let (unit, unit_name) = if long { (1e6, "s") } else { (1e3, "ms") };
    let time = Axis::new(begin as f64, end as f64, unit, false, (LEFT, RIGHT));
    let address = Axis::new(low as f64, high as f64, MIB, true, (BOTTOM, TOP));

    let mut out = String::new();
    push(
        &mut out,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">"
        ),
    );
    push(&mut out, format_args!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"));
    push(&mut out, format_args!("<text x=\"{LEFT}\" y=\"26\" font-size=\"18\">{}</text>", escaped(name)));
    grid(&mut out, &time, &address, (unit, unit_name));
    for what in What::ALL {
        boxes(&mut out, events, what, &time, &address);
    }
    legend(&mut out, events);
    push(&mut out, format_args!("</svg>"));
    out
}

fn grid(out: &mut String, time: &Axis, address: &Axis, (unit, unit_name): (f64, &str)) {
    push(out, format_args!("<g stroke=\"#dddddd\">"));
    for x in time.marks().map(|mark| time.at(mark)) {
        push(out, format_args!("<path d=\"M{x:.1} {TOP}V{BOTTOM}\"/>"));
    }
    for y in address.marks().map(|mark| address.at(mark)) {
        push(out, format_args!("<path d=\"M{LEFT} {y:.1}H{RIGHT}\"/>"));
    }
    push(out, format_args!("</g>\n<g text-anchor=\"middle\">"));
    for mark in time.marks() {
        let (x, y) = (time.at(mark), BOTTOM + 20.0);
        push(out, format_args!("<text x=\"{x:.1}\" y=\"{y}\">{}</text>", number(mark / unit)));
    }
    let (x, y) = (f64::midpoint(LEFT, RIGHT), BOTTOM + 46.0);
    push(out, format_args!("<text x=\"{x}\" y=\"{y}\">time since the trace began [{unit_name}]</text>"));
    let y = f64::midpoint(TOP, BOTTOM);
    push(
        out,
        format_args!(
            "<text transform=\"translate(24 {y}) rotate(-90)\">offset in the memory file [MiB]</text>"
        ),
    );
    push(out, format_args!("</g>\n<g text-anchor=\"end\">"));
    for mark in address.marks() {
        let (x, y) = (LEFT - 8.0, address.at(mark) + 4.0);
        push(out, format_args!("<text x=\"{x}\" y=\"{y:.1}\">{}</text>", number(mark / MIB)));
    }
    push(out, format_args!("</g>"));
}

fn boxes(out: &mut String, events: &[Event], what: What, time: &Axis, address: &Axis) {
    push(out, format_args!("<g fill=\"{}\" fill-opacity=\"0.85\">", style(what).1));
    for event in events.iter().filter(|event| event.what == what) {
        let (x, end) = (time.at(event.start as f64), time.at(event.end as f64));
        let (bottom, y) = (address.at(event.offset as f64), address.at((event.offset + event.bytes) as f64));
        let (width, height) = ((end - x).max(LEAST), (bottom - y).max(LEAST));
        let y = y.min(bottom - height);
        push(
            out,
            format_args!("<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"),
        );
    }
    push(out, format_args!("</g>"));
}

/// Colours, with how many deliveries of each kind there were and how much they brought.
fn legend(out: &mut String, events: &[Event]) {
    let mut x = LEFT;
    for what in What::ALL {
        let of_it = events.iter().filter(|event| event.what == what);
        let (count, bytes) = of_it
            .fold((0_u64, 0_u64), |(count, bytes), event| (count + 1, bytes.saturating_add(event.bytes)));
        if count == 0 {
            continue;
        }
        let (name, colour) = style(what);
        let text = format!("{name}: {count}, {} MiB", number(bytes as f64 / MIB));
        push(out, format_args!("<rect x=\"{x:.0}\" y=\"44\" width=\"14\" height=\"14\" fill=\"{colour}\"/>"));
        push(out, format_args!("<text x=\"{:.0}\" y=\"56\">{text}</text>", x + 20.0));
        // Letters of this size are narrower than that.
        x += 44.0 + 8.0 * text.len() as f64;
    }
}

/// To three decimals, without those that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // XML has no way to write them.
    text.chars().filter(|letter| !letter.is_control()).collect()
}

fn push(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a string takes all that is written to it");
}
