//! The command loop: one line in, one line out.
//!
//! A new command is a function and a row of [`COMMANDS`].

use crate::Spark;
use crate::clock;
use crate::drive;
use crate::fault;
use crate::port;
use crate::power;
use crate::text::{self, Text};
use crate::timer::Timer;
use crate::trap;

/// The longest command in bytes, its end of line not counted.
const LONGEST: usize = 128;

/// What an answer begins with, and whether what the command wrote into the text follows it or a reason.
pub enum Verdict {
    Ok,
    Bad,
    Err(&'static str),
}

impl From<Result<(), &'static str>> for Verdict {
    fn from(result: Result<(), &'static str>) -> Self {
        match result {
            Ok(()) => Self::Ok,
            Err(why) => Self::Err(why),
        }
    }
}

/// Does the work; `args` is what follows the command's name and a space.
type Command = fn(&mut Spark, args: &[u8], answer: &mut Text) -> Verdict;

const COMMANDS: &[(&str, Command)] = &[
    ("echo", echo),
    ("fill", |spark, args, answer| fill(spark, args, answer).into()),
    ("zero", |spark, args, answer| zero(spark, args, answer).into()),
    ("verify", verify),
    ("touch", |spark, args, answer| touch(spark, args, answer).into()),
    ("clock", read_clock),
    ("timer", |spark, args, answer| timer(spark, args, answer).into()),
    ("tick", |spark, args, answer| tick(spark, args, answer).into()),
    ("simd", simd),
    ("disk", drive::disk),
    ("rng", drive::rng),
    ("balloon", |spark, args, answer| drive::balloon(spark, args, answer).into()),
    ("vsock", drive::vsock),
    ("net", drive::net),
    ("mix", drive::mix),
    ("port", ready_again),
    ("mem", mem),
    ("off", |_, _, _| gone_on(power::off)),
    ("reset", |_, _, _| gone_on(power::reset)),
    ("panic", |_, _, _| gone_on(power::panic)),
    ("triple", |_, _, _| gone_on(trap::triple_fault)),
    ("fault", |_, _, _| gone_on(fault::provoke)),
];

/// Receives one line and answers it. An empty line is not answered, so that `\r\n` ends one line and not two.
pub fn serve(spark: &mut Spark) {
    let mut line = [0; LONGEST];
    let mut len = 0;
    loop {
        match spark.console.receive(&mut spark.vectors) {
            b'\r' | b'\n' => break,
            byte => {
                if let Some(place) = line.get_mut(len) {
                    *place = byte;
                }
                len = (len + 1).min(LONGEST + 1);
            }
        }
    }
    if len == 0 {
        return;
    }
    let mut answer = Text::new();
    let verdict = match line.get(..len) {
        Some(line) => run(spark, line, &mut answer),
        None => Verdict::Err("line too long"),
    };
    let mut said = Text::new();
    spark.console.line(match verdict {
        Verdict::Ok => said.str("ok ").raw(answer.bytes()),
        Verdict::Bad => said.str("bad ").raw(answer.bytes()),
        Verdict::Err(why) => said.str("err ").str(why),
    });
}

fn run(spark: &mut Spark, line: &[u8], answer: &mut Text) -> Verdict {
    let (name, args) = text::word(line);
    match COMMANDS.iter().find(|(known, _)| known.as_bytes() == name) {
        Some((_, command)) => command(spark, args, answer),
        None => Verdict::Err("unknown command"),
    }
}

/// For what should have ended the machine.
fn gone_on(end: fn()) -> Verdict {
    end();
    Verdict::Err("the machine goes on")
}

fn echo(_: &mut Spark, args: &[u8], answer: &mut Text) -> Verdict {
    answer.raw(args);
    Verdict::Ok
}

fn fill(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Result<(), &'static str> {
    const USAGE: &str = "usage: fill SIZE SEED [SKIP]";
    let (size, args) = text::word(args);
    let (seed, skip) = text::word(args);
    let size = text::size(size).ok_or(USAGE)?;
    let seed = text::number(seed).ok_or(USAGE)?;
    let skip = if skip.is_empty() { 0 } else { text::size(skip).ok_or(USAGE)? };
    spark.memory.fill(size, seed, skip)?;
    answer.str("filled ").size(spark.memory.filled()).str(" seed ").dec(seed);
    Ok(())
}

fn zero(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Result<(), &'static str> {
    let size = text::size(args).ok_or("usage: zero SIZE")?;
    answer.str("zeroed ").size(spark.memory.zero(size)?);
    Ok(())
}

fn verify(spark: &mut Spark, _: &[u8], answer: &mut Text) -> Verdict {
    match spark.memory.verify() {
        Ok(()) => {
            answer.str("verified ").size(spark.memory.filled()).str(" seed ").dec(spark.memory.seed());
            Verdict::Ok
        }
        Err(wrong) => {
            answer.hex(wrong.address).str(" expected ").hex(wrong.expected).str(" found ").hex(wrong.found);
            Verdict::Bad
        }
    }
}

fn touch(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Result<(), &'static str> {
    const USAGE: &str = "usage: touch read|write SIZE";
    let (how, size) = text::word(args);
    let write = match how {
        b"read" => false,
        b"write" => true,
        _ => return Err(USAGE),
    };
    let pages = spark.memory.touch(text::size(size).ok_or(USAGE)?, write)?;
    answer.str("touched ").dec(pages).str(" pages");
    Ok(())
}

fn read_clock(_: &mut Spark, _: &[u8], answer: &mut Text) -> Verdict {
    let clock::Reading { tsc, kvmclock } = clock::read();
    answer.str("tsc=").dec(tsc);
    match kvmclock {
        Some(ns) => {
            let (sec, nsec) = clock::wall(ns);
            answer.str(" kvmclock=").dec(ns).str(" wall=").dec(sec).str(".").padded(nsec, 9);
        }
        None => {
            answer.str(" kvmclock=none wall=none");
        }
    }
    Verdict::Ok
}

fn timer(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Result<(), &'static str> {
    let ms = milliseconds(args).ok_or("usage: timer MS, at most 60000")?;
    let ns = spark.timer.sleep(ms)?;
    answer.str("timer fired after ").dec(ns).str(" ns");
    Ok(())
}

fn tick(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Result<(), &'static str> {
    const USAGE: &str = "usage: tick N MS, at most 60000 ms";
    let (count, ms) = text::word(args);
    let count = text::number(count).ok_or(USAGE)?;
    let ms = milliseconds(ms).ok_or(USAGE)?;
    for i in 1..=count {
        spark.timer.sleep(ms)?;
        spark.console.line(Text::new().str("tick ").dec(i));
    }
    answer.str("ticked ").dec(count);
    Ok(())
}

fn milliseconds(text: &[u8]) -> Option<u64> {
    text::number(text).filter(|&ms| ms <= Timer::LONGEST)
}

fn simd(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Verdict {
    if args == b"check" {
        return match spark.vectors.check() {
            Ok(Ok(seed)) => {
                answer.str(spark.vectors.kind()).str(" registers hold seed ").dec(seed);
                Verdict::Ok
            }
            Ok(Err(register)) => {
                answer.str(spark.vectors.kind()).dec(register).str(" is not what it was");
                Verdict::Bad
            }
            Err(why) => Verdict::Err(why),
        };
    }
    let Some(seed) = text::number(args) else { return Verdict::Err("usage: simd SEED, simd check") };
    spark.vectors.load(seed);
    answer.str("loaded ").str(spark.vectors.kind()).str(" registers with seed ").dec(seed);
    Verdict::Ok
}

fn ready_again(_: &mut Spark, _: &[u8], answer: &mut Text) -> Verdict {
    port::write8(port::READY, 1);
    answer.str("said so");
    Verdict::Ok
}

fn mem(spark: &mut Spark, _: &[u8], answer: &mut Text) -> Verdict {
    let free = spark.memory.bounds();
    answer
        .str("total ")
        .size(spark.memory.total())
        .str(" free from ")
        .hex(free.start)
        .str(" to ")
        .hex(free.end);
    Verdict::Ok
}
