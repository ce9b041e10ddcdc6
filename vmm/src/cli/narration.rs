//! The story of a run, on stderr. Cheap when nobody asked for it: a restore is measured from `exec`.

use std::io::stderr;

use anyhow::Result;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::{fmt, time};
use vmm::config;

/// The variable that is looked at when `--log-level` is not given.
const VARIABLE: &str = "REKINDLE_LOG";

/// Sets the narrator up for the rest of the process.
pub(super) fn start(option: Option<&str>) -> Result<()> {
    let variable = std::env::var(VARIABLE).ok();
    let asked = option.or(variable.as_deref()).filter(|text| !text.is_empty());
    let narrator = fmt().with_writer(stderr).with_ansi(false).with_timer(time::uptime());
    match asked.map(str::parse::<LevelFilter>) {
        None => narrator.with_max_level(LevelFilter::WARN).init(),
        Some(Ok(level)) => narrator.with_max_level(level).init(),
        // Only directives pay for their parser.
        Some(Err(_)) => {
            let text = asked.unwrap_or_default();
            let filter =
                EnvFilter::try_new(text).map_err(|_| config::Error::LogLevel { value: text.to_owned() })?;
            narrator.with_env_filter(filter).init();
        }
    }
    Ok(())
}
