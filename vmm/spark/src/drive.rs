//! The commands that drive devices: each finds its device, resets it, and sets it up anew.

use crate::Spark;
use crate::command::Verdict;
use crate::console::Console;
use crate::exercise::{self, End, Exercise, bench, rng as draws, stream};
use crate::memory::read_volatile;
use crate::text::{self, Text};
use crate::timer::Timer;
use crate::virtio::balloon;
use crate::virtio::blk::{DEPTH, Disk, Kind, NAME, SECTOR};
use crate::virtio::net::Net;
use crate::virtio::rng::{DEPTH as RNG_DEPTH, Rng};
use crate::virtio::vsock::{MOST, Vsock};

/// What becomes of a command that finds no fault, or one of the device's, or cannot be done.
type Outcome = Result<Result<(), &'static str>, &'static str>;

fn verdict(outcome: Outcome, answer: &mut Text) -> Verdict {
    match outcome {
        Ok(Ok(())) => Verdict::Ok,
        Ok(Err(problem)) => {
            answer.clear().str(problem);
            Verdict::Bad
        }
        Err(why) => Verdict::Err(why),
    }
}

/// The next number of `args`.
fn number(args: &mut &[u8]) -> Option<u64> {
    let (word, rest) = text::word(args);
    *args = rest;
    text::size(word)
}

/// The same, between 1 and `most`.
fn upto(args: &mut &[u8], most: u64) -> Option<u64> {
    number(args).filter(|number| (1..=most).contains(number))
}

pub fn disk(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Verdict {
    let (what, args) = text::word(args);
    let outcome = match what {
        b"info" => disk_info(answer),
        b"fill" => disk_fill(spark, args, answer),
        b"verify" => disk_verify(spark, answer),
        b"run" => disk_run(spark, args, answer),
        b"bench" => disk_bench(spark, args, answer),
        _ => Err("usage: disk info|fill|verify|run|bench"),
    };
    verdict(outcome, answer)
}

fn disk_info(answer: &mut Text) -> Outcome {
    let mut disk = Disk::find()?;
    if let Err(problem) = disk.alone(Kind::Name, 0, NAME as u32) {
        return Ok(Err(problem));
    }
    let mut name = [0; NAME];
    for (byte, at) in name.iter_mut().zip(disk.buffer(0)..) {
        *byte = read_volatile(at);
    }
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
    answer.str("disk ").raw(name.get(..len).unwrap_or(&[])).str(" of ").dec(disk.sectors());
    answer.str(" sectors in slot ").dec(disk.slot());
    Ok(Ok(()))
}

fn disk_fill(spark: &mut Spark, mut args: &[u8], answer: &mut Text) -> Outcome {
    let seed = number(&mut args).ok_or("usage: disk fill SEED")?;
    let filled = spark.record.fill(&mut Disk::find()?, seed);
    answer.str("disk filled ").dec(spark.record.blocks()).str(" blocks seed ").dec(seed);
    Ok(filled)
}

fn disk_verify(spark: &mut Spark, answer: &mut Text) -> Outcome {
    Ok(match spark.record.verify(&mut Disk::find()?) {
        Ok(None) => {
            answer.str("disk verified ").dec(spark.record.blocks()).str(" blocks");
            Ok(())
        }
        Ok(Some(block)) => {
            // Not in the answer: that is for the problem.
            spark.console.line(Text::new().str("block ").dec(block));
            Err("the disk holds other data than was written")
        }
        Err(problem) => Err(problem),
    })
}

fn disk_run(spark: &mut Spark, mut args: &[u8], answer: &mut Text) -> Outcome {
    const USAGE: &str = "usage: disk run N SEED DEPTH, at most 16 deep";
    let count = number(&mut args).ok_or(USAGE)?;
    let seed = number(&mut args).ok_or(USAGE)?;
    let depth = upto(&mut args, DEPTH as u64).ok_or(USAGE)?;
    let mut disk = Disk::find()?;
    let mut exerciser = exercise::disk::Exerciser::new(&mut disk, spark.record, count, seed, depth as usize)?;
    run(spark.console, &mut spark.timer, &mut [&mut exerciser], answer)
}

fn disk_bench(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Outcome {
    const USAGE: &str = "usage: disk bench read|write seq|random BYTES DEPTH N, at most 128K 16 4096";
    let (kind, args) = text::word(args);
    let kind = match kind {
        b"read" => Kind::Read,
        b"write" => Kind::Write,
        _ => return Err(USAGE),
    };
    let (order, mut args) = text::word(args);
    if ![&b"seq"[..], b"random"].contains(&order) {
        return Err(USAGE);
    }
    let bytes = upto(&mut args, bench::LARGEST).filter(|bytes| bytes % SECTOR == 0).ok_or(USAGE)?;
    let depth = upto(&mut args, DEPTH as u64).ok_or(USAGE)? as usize;
    let count = upto(&mut args, bench::LONGEST as u64).ok_or(USAGE)?;
    if kind == Kind::Write {
        spark.record.forget();
    }
    let mut disk = Disk::find()?;
    let done = bench::disk(&mut disk, spark.samples, kind, order == b"seq", (bytes, depth, count));
    measured(spark, done, answer)
}

/// Ends a measurement.
fn measured(spark: &mut Spark, done: Result<(), &'static str>, answer: &mut Text) -> Outcome {
    if done.is_ok() {
        spark.samples.end(answer)?;
    }
    Ok(done)
}

pub fn rng(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Verdict {
    verdict(rng_run(spark, args, answer), answer)
}

fn rng_run(spark: &mut Spark, mut args: &[u8], answer: &mut Text) -> Outcome {
    let bytes = number(&mut args).ok_or("usage: rng SIZE")?;
    let mut rng = Rng::find()?;
    let mut exerciser = draws::Exerciser::new(&mut rng, bytes, bytes, RNG_DEPTH);
    run(spark.console, &mut spark.timer, &mut [&mut exerciser], answer)
}

pub fn balloon(spark: &mut Spark, mut args: &[u8], answer: &mut Text) -> Result<(), &'static str> {
    let free = number(&mut args).ok_or("usage: balloon SIZE")?;
    balloon::tell(free, spark.memory.total())?;
    answer.str("told of ").size(free);
    Ok(())
}

pub fn vsock(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Verdict {
    let (what, args) = text::word(args);
    let outcome = match what {
        b"info" => vsock_info(answer),
        b"echo" => vsock_echo(spark, args, answer),
        b"bench" => vsock_bench(spark, args, answer),
        _ => Err("usage: vsock info|echo|bench"),
    };
    verdict(outcome, answer)
}

fn vsock_info(answer: &mut Text) -> Outcome {
    answer.str("vsock cid ").dec(Vsock::find()?.cid());
    Ok(Ok(()))
}

fn vsock_echo(spark: &mut Spark, mut args: &[u8], answer: &mut Text) -> Outcome {
    const USAGE: &str = "usage: vsock echo PORT SIZE";
    let port = upto(&mut args, u32::MAX as u64).ok_or(USAGE)? as u32;
    let bytes = number(&mut args).ok_or(USAGE)?;
    let mut vsock = Vsock::find()?;
    let mut exerciser = stream::Exerciser::new(&mut vsock, port, bytes, bytes);
    run(spark.console, &mut spark.timer, &mut [&mut exerciser], answer)
}

fn vsock_bench(spark: &mut Spark, mut args: &[u8], answer: &mut Text) -> Outcome {
    const USAGE: &str = "usage: vsock bench PORT BYTES N, at most 4096 each";
    let port = upto(&mut args, u32::MAX as u64).ok_or(USAGE)? as u32;
    let bytes = upto(&mut args, MOST).ok_or(USAGE)?;
    let count = upto(&mut args, bench::LONGEST as u64).ok_or(USAGE)?;
    let done = bench::vsock(&mut Vsock::find()?, spark.samples, port, (bytes, count));
    measured(spark, done, answer)
}

pub fn net(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Verdict {
    let (what, args) = text::word(args);
    let outcome = match what {
        b"bench" => net_bench(spark, args, answer),
        _ => Err("usage: net bench"),
    };
    verdict(outcome, answer)
}

fn net_bench(spark: &mut Spark, mut args: &[u8], answer: &mut Text) -> Outcome {
    const USAGE: &str = "usage: net bench IP N, IP as one number, N at most 4096";
    let ip = upto(&mut args, u32::MAX as u64).ok_or(USAGE)? as u32;
    let count = upto(&mut args, bench::LONGEST as u64).ok_or(USAGE)?;
    let done = bench::arp(&mut Net::find()?, spark.samples, ip, count);
    measured(spark, done, answer)
}

/// Every device that there is, until the console says otherwise.
pub fn mix(spark: &mut Spark, args: &[u8], answer: &mut Text) -> Verdict {
    verdict(mix_all(spark, args, answer), answer)
}

fn mix_all(spark: &mut Spark, mut args: &[u8], answer: &mut Text) -> Outcome {
    const USAGE: &str = "usage: mix SEED [PORT]";
    const ENDLESS: u64 = u64::MAX;
    let seed = number(&mut args).ok_or(USAGE)?;
    let port =
        if args.is_empty() { None } else { Some(upto(&mut args, u32::MAX as u64).ok_or(USAGE)? as u32) };
    let (mut disk, mut rng) = (Disk::find()?, Rng::find()?);
    let mut disk = exercise::disk::Exerciser::new(&mut disk, spark.record, ENDLESS, seed, DEPTH)?;
    let mut rng = draws::Exerciser::new(&mut rng, ENDLESS, seed, RNG_DEPTH);
    let Some(port) = port else {
        return run(spark.console, &mut spark.timer, &mut [&mut disk, &mut rng], answer);
    };
    let mut vsock = Vsock::find()?;
    let mut stream = stream::Exerciser::new(&mut vsock, port, ENDLESS, seed);
    run(spark.console, &mut spark.timer, &mut [&mut disk, &mut rng, &mut stream], answer)
}

fn run(
    console: Console,
    timer: &mut Timer,
    exercises: &mut [&mut dyn Exercise],
    answer: &mut Text,
) -> Outcome {
    match exercise::run(console, timer, exercises) {
        End::Over => {
            exercise::report(answer, exercises);
            Ok(Ok(()))
        }
        End::Wrong(problem) => {
            // How far they were helps whoever looks for the reason.
            console.line(exercise::report(Text::new().str("at "), exercises));
            Ok(Err(problem))
        }
        End::Cannot(why) => Err(why),
    }
}
