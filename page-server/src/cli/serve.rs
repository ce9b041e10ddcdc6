//! `rekindle-pages serve`.

use std::fs::File;
use std::io::stderr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use page_server::access::{self, Access};
use page_server::activation;
use page_server::descriptors;
use page_server::endpoint::Endpoint;
use page_server::exporter;
use page_server::fault::Grain;
use page_server::image;
use page_server::notify::Notify;
use page_server::server::{self, Config, Signals};
use page_server::session;
use page_server::socket::Socket;
use page_server::source::Policy;
use page_server::stats::Metrics;
use page_server::trace::Trace;
use tracing_subscriber::EnvFilter;

use super::args::{ServeArgs, Switch};
use super::catalogue::Catalogue;
use super::exit::PartOfImage;

/// How much more a guest gets that goes on in order.
const WALK: u64 = 16;
/// The most that is delivered for one fault.
const MAX_GRAIN: u64 = 2 << 20;

/// Serves until told to end.
pub(super) fn run(args: ServeArgs) -> Result<()> {
    activation::receive();
    narrate(&args.log_level)?;
    descriptors::raise();
    let mut signals =
        if args.images_from.is_some() { Signals::watch_with_reload() } else { Signals::watch() }?;
    let options = image::Options::new(args.cache, Policy::default());
    let access = access(args.socket_mode, args.socket_group.as_deref())?;
    let mut catalogue = Catalogue::new(args.sockets, args.images, args.images_from, options, access);
    let endpoints = catalogue.endpoints()?;
    let metrics = Metrics::new().context("cannot set up the metrics")?;
    let session = session::Options {
        grain: Grain { least: args.grain, most: (args.grain * WALK).min(MAX_GRAIN) },
        poll: args.busy_poll,
        prefetch: args.prefetch == Switch::On,
        trace: args.trace.as_deref().map(|path| trace(path, &endpoints)).transpose()?,
        handover: args.handover,
        ..Default::default()
    };
    let config = Config { max_sessions: args.max_sessions as usize, drain: args.drain_timeout, session };
    let exporter = args.metrics.as_deref().map(|path| export(path, access, &metrics)).transpose()?;
    if let Some(address) = args.metrics_listen {
        let listening = exporter::listen(address, metrics.clone());
        let listening = listening.with_context(|| format!("cannot serve the metrics at {address}"))?;
        tracing::info!("the metrics are at http://{listening}/metrics");
    }
    let unclaimed = activation::unclaimed();
    ensure!(unclaimed.is_empty(), "sockets were passed that no option names: {}", unclaimed.join(", "));
    let mut reload = |endpoints: &mut Vec<Endpoint>| reload(&mut catalogue, endpoints);
    let (config, notify) = (fitting(config), Notify::from_env());
    let served = server::run(endpoints, config, metrics, &mut signals, &mut reload, &notify);
    drop(exporter);
    Ok(served?)
}

/// What cannot be read or opened leaves everything as it is: VMs are being served.
fn reload(catalogue: &mut Catalogue, endpoints: &mut Vec<Endpoint>) -> Vec<Endpoint> {
    match catalogue.reload(endpoints) {
        Ok(removed) => {
            for endpoint in &*endpoints {
                let images = endpoint.images().len();
                tracing::info!(images, "serving on `{}`", endpoint.path().display());
            }
            removed
        }
        Err(error) => {
            tracing::error!("what is served stays as it is: {error:#}");
            Vec::new()
        }
    }
}

/// Who may connect.
fn access(mode: u32, group: Option<&str>) -> Result<Access> {
    let number = |name: &str| {
        let number = access::group(name, Path::new("/etc/group"));
        number.with_context(|| format!("cannot give the sockets to the group `{name}`"))
    };
    Ok(Access { mode, group: group.map(number).transpose()? })
}

/// No more VMs than there are descriptors for.
fn fitting(config: Config) -> Config {
    let max_sessions = descriptors::sessions(config.max_sessions);
    if max_sessions < config.max_sessions {
        let wanted = config.max_sessions;
        tracing::warn!(wanted, max_sessions, "fewer VMs at once: RLIMIT_NOFILE allows no more");
    }
    Config { max_sessions, ..config }
}

fn export(path: &Path, access: Access, metrics: &Metrics) -> Result<exporter::Exporter> {
    exporter::start(Socket::bind_for(path, access)?, metrics.clone()).context("cannot serve the metrics")
}

/// Begins a trace. What is in the file goes only once it is certain that nobody is served from it.
fn trace(path: &Path, endpoints: &[Endpoint]) -> Result<Arc<Trace>> {
    let failed = || format!("cannot write the trace `{}`", path.display());
    let file = File::options().create(true).write(true).truncate(false).open(path).with_context(failed)?;
    let about = file.metadata().with_context(failed)?;
    if endpoints.iter().flat_map(Endpoint::images).any(|image| image.holds(&about)) {
        return Err(PartOfImage { path: path.to_owned() }.into());
    }
    if about.is_file() {
        file.set_len(0).with_context(failed)?;
    }
    Ok(Arc::new(Trace::new(file).with_context(failed)?))
}

fn narrate(level: &str) -> Result<()> {
    let filter = EnvFilter::try_new(level).with_context(|| format!("`{level}` is no log level"))?;
    tracing_subscriber::fmt().with_writer(stderr).with_ansi(false).with_env_filter(filter).init();
    Ok(())
}
