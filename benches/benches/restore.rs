//! `cargo bench --bench restore`: boot against restore, measured on the real program. `-- --help` says what can be
//! chosen; `cargo xtask bench` builds the program first.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use clap::Parser;
use rekindle_benches::conditions::Conditions;
use rekindle_benches::options::{Options, Part};
use rekindle_benches::program::Program;
use rekindle_benches::render::{Style, render};
use rekindle_benches::results::Results;
use rekindle_benches::{clones, disks, echoes, faults, lazily, sessions, snapshots, starts, touches};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let results = measure(options)?;
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&results).context("cannot write the results as JSON")?;
        fs::write(path, json).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    let style = if options.markdown { Style::Markdown } else { Style::Plain };
    print!("{}", render(&results, style));
    Ok(())
}

fn measure(options: &Options) -> Result<Results> {
    let path = options.program.clone().map_or_else(|| built_beside("rekindle"), Ok)?;
    let programs: Vec<_> = [Some(path), options.against.clone()].into_iter().flatten().collect();
    let programs: Vec<_> = programs.into_iter().map(Program::new).collect();
    let program = &programs[0];
    let dir = options.dir.clone().unwrap_or_else(env::temp_dir);
    let dir = tempfile::tempdir_in(dir).context("cannot make a directory for the images")?;
    let conditions = Conditions::now(program)?;
    let (n, slow_n) = (options.n as usize, options.slow_n as usize);

    let (mut groups, mut not_measured) = (Vec::new(), Vec::new());
    if options.wants(Part::Starts) {
        eprintln!("starting guests, {n} times each");
        groups.extend(starts::measure(&programs, dir.path(), n)?);
    }
    if options.wants(Part::Snapshots) {
        eprintln!("taking snapshots, {slow_n} of each guest");
        groups.push(snapshots::measure(program, dir.path(), slow_n)?);
    }
    if options.wants(Part::Touches) {
        eprintln!("touching memory, {slow_n} times each way");
        groups.push(touches::measure(program, dir.path(), slow_n)?);
    }
    if options.wants(Part::Lazily) {
        eprintln!("having memory delivered, {slow_n} times each way");
        let pages = options.pages.clone().map_or_else(|| built_beside("rekindle-pages"), Ok)?;
        let outcome = lazily::measure(program, &pages, dir.path(), slow_n)?;
        groups.extend(outcome.groups);
        not_measured.extend(outcome.not_measured);
    }
    if options.wants(Part::Faults) {
        eprintln!("touching pages, {slow_n} runs of each kind");
        groups.extend(faults::measure(program, dir.path(), slow_n)?);
        let pages = options.pages.clone().map_or_else(|| built_beside("rekindle-pages"), Ok)?;
        groups.push(sessions::measure(&pages, dir.path(), slow_n)?);
    }
    if options.wants(Part::Clones) {
        eprintln!("starting clones, {slow_n} crowds of each size");
        groups.push(clones::measure(program, dir.path(), slow_n)?);
    }
    if options.wants(Part::Disks) {
        eprintln!("asking disks, {slow_n} runs of each kind");
        groups.extend(disks::measure(program, dir.path(), slow_n)?);
    }
    if options.wants(Part::Echoes) {
        eprintln!("going to the host and back, {slow_n} runs of each kind");
        groups.push(echoes::vsock(program, dir.path(), slow_n)?);
        match echoes::why_no_tap() {
            None => groups.push(echoes::tap(program, slow_n)?),
            Some(why) => not_measured.push(format!("TAP: {why}")),
        }
    }
    Ok(Results { conditions, groups, not_measured })
}

/// A program in the build directory that this one is in: two levels up, past `deps`.
fn built_beside(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program's own file")?;
    let built = own.ancestors().nth(2).map(|dir| dir.join(name)).filter(|path| path.is_file());
    let Some(path) = built else {
        bail!("there is no `{name}` beside {}: build it, or name it (--help says how)", own.display());
    };
    Ok(path)
}
