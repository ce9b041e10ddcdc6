//! `rekindle restore`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use vmm::config::{MemoryConfig, ReportTarget, RestoreConfig};
use vmm::restore::{self, Delivery, Recording, Report};
use vmm::supervisor::Start;

use super::args::RestoreArgs;
use super::ended;
use super::output;
use super::pages;
use super::session::Session;
use super::written::Written;

/// Brings a guest back from an image and runs it until it ends.
pub(super) fn run(args: RestoreArgs) -> Result<()> {
    let RestoreConfig {
        image,
        memory,
        prefetch,
        record,
        serial,
        overrides,
        report: target,
        api_socket,
        paused,
    } = RestoreConfig::try_from(args)?;
    vmm::guard_mapped_files().context("cannot handle SIGBUS")?;
    let mut session = Session::of_image(serial, api_socket, &image)?;
    let mut report = Report::default();
    let mut plan = report.phase("plan", || restore::plan(&image, &overrides))?;
    if !prefetch.is_on() {
        plan.without_prefetch();
    }
    let recording = record.map(|time| plan.record(time.get())).transpose()?;
    let target = target.map(|target| Target::open(target, &image)).transpose()?;
    let connections = session.connections(None, false)?;
    let machine = match memory.of_image(plan.is_packed()) {
        MemoryConfig::Mmap | MemoryConfig::AsKept => plan.restore(connections, &mut report)?,
        MemoryConfig::Lazy { server, timeout, trace } => {
            let timeout = timeout.get();
            let server = pages::server(server, timeout, &image, trace.as_deref())?;
            let delivery = Delivery { server, timeout };
            plan.restore_lazily(connections, delivery, &mut report)?
        }
    };
    if !report.clock_behind.is_zero() {
        tracing::warn!(
            "the guest's clock is {} s behind: time is advanced by an hour at most; in the guest, `date -s \
             @$(cat /sys/class/rtc/rtc0/since_epoch)` or NTP sets it right",
            report.clock_behind.as_secs()
        );
    }
    let tell = target.map(|target| Box::new(move || target.write(&image, &report)) as Box<dyn FnOnce()>);
    let start = if paused { Start::Paused } else { Start::Running };
    let ending = session.run(machine, start, None, tell).map_err(ended::blame_image)?;
    let recorded = recording.map(Recording::finish).transpose();
    ended::result(ending)?;
    recorded.context("no working set was recorded").map(drop)
}

/// The report as it is written.
#[derive(Serialize)]
struct ReportView<'a> {
    image: String,
    phases: Vec<PhaseView<'a>>,
    total_us: f64,
    /// Whether guest TSCs were set in exact relation to kvmclock.
    exact_tsc: bool,
    /// By how much the guest's wall clock is behind.
    clock_behind_s: f64,
}

#[derive(Serialize)]
struct PhaseView<'a> {
    name: &'a str,
    us: f64,
}

impl<'a> ReportView<'a> {
    fn new(image: &Path, report: &'a Report) -> Self {
        let us = |time: std::time::Duration| time.as_nanos() as f64 / 1000.0;
        let phases = report.phases.iter().map(|phase| PhaseView { name: phase.name, us: us(phase.took) });
        Self {
            image: image.display().to_string(),
            phases: phases.collect(),
            total_us: us(report.total()),
            exact_tsc: report.exact_tsc,
            clock_behind_s: report.clock_behind.as_secs_f64(),
        }
    }
}

/// Where the report goes.
enum Target {
    Stdout,
    File(Written),
}

impl Target {
    fn open(target: ReportTarget, image: &Path) -> Result<Self> {
        match target {
            ReportTarget::Stdout => Ok(Self::Stdout),
            ReportTarget::File(path) => Written::open(&path, "the report", Some(image)).map(Self::File),
        }
    }

    /// Written once the guest runs, so that it costs the guest nothing. A report that cannot be written by then is
    /// told, and the guest lives on: it is what was asked for in the first place.
    fn write(self, image: &Path, report: &Report) {
        let view = ReportView::new(image, report);
        let written = match self {
            Self::Stdout => output::json(&view),
            Self::File(file) => to_file(&file, &view),
        };
        if let Err(e) = written {
            tracing::warn!("no report: {e:#}");
        }
    }
}

fn to_file(target: &Written, view: &ReportView<'_>) -> Result<()> {
    target.empty()?;
    let mut file = target.file().context("cannot write the report")?;
    serde_json::to_writer_pretty(&mut file, view).context("cannot write the report")
}
