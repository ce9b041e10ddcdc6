//! Boot against restore: from `exec` to the guest's first byte, and where the time of a restore went.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::program::{Guest, Program};
use crate::results::{Group, Series, us};

/// What is started; the smaller guest is the one whose phases are shown.
const SMALL: Guest = Guest { memory: "256M", fill: "8M" };
const LARGE: Guest = Guest { memory: "2G", fill: "8M" };

/// Starts of each kind before the first one that counts.
const WARM_UP: usize = 3;

/// One way to start, with what it has taken so far.
struct Contender<'a> {
    name: String,
    program: &'a Program,
    how: How,
    samples: Vec<Duration>,
}

/// How a guest is started.
enum How {
    Boot(Guest),
    Restore(PathBuf),
}

impl Contender<'_> {
    fn start(&self) -> Result<Duration> {
        let vm = match &self.how {
            How::Boot(guest) => self.program.boot(*guest, &[]),
            How::Restore(image) => self.program.restore(image, &[]),
        };
        vm?.first_byte().with_context(|| format!("cannot measure `{}`", self.name))
    }
}

/// Starts every contender `rounds` times, one after the other in each round, so that all see the same noise. With a
/// second program, both compete; `dir` takes their images.
pub fn measure(programs: &[Program], dir: &Path, rounds: usize) -> Result<Vec<Group>> {
    let mut contenders = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        contenders.extend(contenders_of(program, index, dir)?);
    }
    let program = programs.first().context("there is no program to measure")?;
    let mut phases = Phases::new(program, dir);
    for contender in contenders.iter().cycle().take(WARM_UP * contenders.len()) {
        contender.start()?;
    }
    for round in 0..rounds {
        // Each round begins with another one: none always follows the same predecessor.
        let count = contenders.len();
        for turn in 0..count {
            let contender = &mut contenders[(round + turn) % count];
            let took = contender.start()?;
            contender.samples.push(took);
        }
        phases.take()?;
    }
    let series = contenders.into_iter().map(|c| Series::times(c.name, c.samples)).collect();
    let starts = Group { title: "Starts", boundary: "exec to the guest's first byte on its console", series };
    Ok(vec![starts, phases.into_group()])
}

fn contenders_of<'a>(program: &'a Program, index: usize, dir: &Path) -> Result<Vec<Contender<'a>>> {
    let suffix = if index == 0 { "" } else { " (against)" };
    let mut contenders = vec![Contender {
        name: format!("boot, {}{suffix}", SMALL.memory),
        program,
        how: How::Boot(SMALL),
        samples: Vec::new(),
    }];
    for guest in [SMALL, LARGE] {
        let image = image(dir, guest, index);
        program.bake(guest, &image)?;
        contenders.push(Contender {
            name: format!("restore, {}{suffix}", guest.memory),
            program,
            how: How::Restore(image),
            samples: Vec::new(),
        });
    }
    Ok(contenders)
}

fn image(dir: &Path, guest: Guest, index: usize) -> PathBuf {
    dir.join(format!("start-{}-{index}", guest.memory))
}

/// Restores that write a report, apart from those that are compared: the report costs a little, too.
struct Phases<'a> {
    program: &'a Program,
    image: PathBuf,
    report: PathBuf,
    /// By phase, in the order of the report.
    samples: Vec<(String, Vec<f64>)>,
    /// Of the same restores, what no phase accounts for.
    rest: Vec<f64>,
}

/// The part that is read of what `rekindle restore --report` writes.
#[derive(Deserialize)]
struct Report {
    phases: Vec<Phase>,
    total_us: f64,
}

#[derive(Deserialize)]
struct Phase {
    name: String,
    us: f64,
}

impl<'a> Phases<'a> {
    fn new(program: &'a Program, dir: &Path) -> Self {
        let (image, report) = (image(dir, SMALL, 0), dir.join("report.json"));
        Self { program, image, report, samples: Vec::new(), rest: Vec::new() }
    }

    fn take(&mut self) -> Result<()> {
        let options = [OsStr::new("--report"), self.report.as_os_str()];
        let mut vm = self.program.restore(&self.image, &options)?;
        let first_byte = us(vm.first_byte()?);
        let report = self.read(&vm)?;
        if self.samples.is_empty() {
            self.samples = report.phases.iter().map(|phase| (phase.name.clone(), Vec::new())).collect();
        }
        ensure!(self.samples.len() == report.phases.len(), "two reports name different phases");
        for ((name, samples), phase) in self.samples.iter_mut().zip(report.phases) {
            ensure!(*name == phase.name, "two reports name different phases");
            samples.push(phase.us);
        }
        self.rest.push(first_byte - report.total_us);
        fs::remove_file(&self.report).context("cannot remove a report")
    }

    /// The guest may be faster than the report.
    fn read(&self, vm: &crate::program::Vm) -> Result<Report> {
        const PATIENCE: Duration = Duration::from_secs(10);
        loop {
            let text = fs::read(&self.report).unwrap_or_default();
            match serde_json::from_slice(&text) {
                Ok(report) => return Ok(report),
                Err(_) if vm.age() < PATIENCE => std::thread::sleep(Duration::from_micros(200)),
                Err(why) => return Err(why).context("cannot read the report of a restore"),
            }
        }
    }

    fn into_group(self) -> Group {
        let mut series: Vec<_> =
            self.samples.into_iter().map(|(name, samples)| Series::us(name, samples)).collect();
        series.push(Series::us("process start, arguments, threads, guest", self.rest));
        Group {
            title: "Phases of a restore, 256M",
            boundary: "as `--report` says, in restores of their own; last, what is left of exec to first byte",
            series,
        }
    }
}
