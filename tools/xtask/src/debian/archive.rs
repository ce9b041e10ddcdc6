//! A private view of the Debian archive: downloads packages without root, and without touching the system's
//! lists.
//!
//! The mirror is whichever one the machine already uses; the suites are ours, because what we want comes from
//! several of them and the machine runs at most one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use super::LOCK_TIMEOUT;
use crate::{place, process};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Some suites of the archive, and the name of the cache directory of their lists.
///
/// Each view has its own lists: a suite that the mirror no longer has fails the update of all that are in its
/// view.
#[derive(Clone, Copy, Debug)]
pub struct Suites {
    view: &'static str,
    names: &'static [&'static str],
    /// Whether the security archive has the like.
    security: bool,
}

/// The releases whose kernels we want, oldest first.
pub const RELEASES: Suites = Suites { view: "debian", names: &["bookworm", "trixie"], security: true };
/// What was taken over into Debian 13 from the release after it, and what that depends on.
pub const BACKPORTS: Suites =
    Suites { view: "debian-backports", names: &["trixie", "trixie-backports"], security: false };
/// The oldest release that mirrors still carry, without its updates.
pub const OLDEST: Suites = Suites { view: "debian-oldest", names: &["bullseye"], security: false };
/// Names a mirror where the machine's own sources have none, for example on another distribution.
const MIRROR: &str = "REKINDLE_DEBIAN_MIRROR";

/// The archive, with its own lists under a cache directory.
pub struct Archive {
    dir: PathBuf,
    suites: Suites,
}

impl Archive {
    /// Opens the view of `suites`, fetching the package lists if they are missing or older than a day.
    pub fn open(suites: Suites) -> Result<Self> {
        let dir = place::target().join(suites.view);
        for sub in ["lists/partial", "cache/archives/partial", "etc"] {
            fs::create_dir_all(dir.join(sub)).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let archive = Self { dir: dir.clone(), suites };
        let list = sources_list(suites, &mirrors()?);
        let list_path = dir.join("etc/sources.list");
        let stamp = dir.join("updated");
        let same_sources = fs::read_to_string(&list_path).is_ok_and(|old| old == list);
        if same_sources && is_recent(&stamp) {
            return Ok(archive);
        }
        fs::write(&list_path, list).context("cannot write the private sources.list")?;
        // No package is installed as far as this view goes: it only downloads.
        fs::write(dir.join("status"), "").context("cannot write the private dpkg status")?;
        eprintln!("fetching Debian's package lists");
        process::output(archive.apt("apt-get").arg("update"))?;
        fs::write(&stamp, "").context("cannot stamp the private package lists")?;
        Ok(archive)
    }

    /// The versions of `package`, newest first, with what each depends on.
    pub fn versions(&self, package: &str) -> Result<Vec<(String, String)>> {
        let shown = process::output(self.apt("apt-cache").args(["show", package]))?;
        Ok(versions(&shown))
    }

    /// Downloads one version of `package` into `into`; the path of the .deb.
    pub fn download(&self, package: &str, version: &str, into: &Path) -> Result<PathBuf> {
        let wanted = format!("{package}={version}");
        process::output(self.apt("apt-get").args(["download", &wanted]).current_dir(into))?;
        let mut debs = fs::read_dir(into)?.flatten().map(|entry| entry.path());
        debs.find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
        })
        .with_context(|| format!("apt-get downloaded no archive of {wanted}"))
    }

    /// Downloads packages, each as `NAME` or `NAME=VERSION`, with all that they depend on, whatever this machine has of
    /// it; the paths of the .debs, which are good until the next download. Names come from the last suite first.
    pub fn download_with_needs(&self, wanted: &[String]) -> Result<Vec<PathBuf>> {
        process::output(self.apt("apt-get").arg("clean"))?;
        let mut download = self.apt("apt-get");
        download.args(["install", "--yes", "--download-only", "--no-install-recommends"]);
        if let Some(suite) = self.suites.names.last() {
            download.args(["--target-release", suite]);
        }
        process::output(download.args(wanted))?;
        let archives = self.dir.join("cache/archives");
        let entries =
            fs::read_dir(&archives).with_context(|| format!("cannot list {}", archives.display()))?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect())
    }

    fn apt(&self, program: &str) -> Command {
        let at = |sub: &str| self.dir.join(sub).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::SourceList={}", at("etc/sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State={}", at("")),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            // The machine's hooks are for the machine's lists.
            "APT::Update::Post-Invoke-Success=".to_owned(),
            "APT::Update::Post-Invoke=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            // The cache may lie where apt's own user may not go.
            "APT::Sandbox::User=root".to_owned(),
            LOCK_TIMEOUT.to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// Where to fetch from: the main archive, and the security one if the machine has it.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: Option<String>,
}

fn mirrors() -> Result<Mirrors> {
    if let Ok(main) = env::var(MIRROR) {
        return Ok(Mirrors { main, security: None });
    }
    let mut text = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ext| ext == "list" || ext == "sources") {
            text.push('\n');
            text.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
    match mirrors_of(&text) {
        Some(mirrors) => Ok(mirrors),
        None => bail!("apt's sources name no Debian mirror; give one as {MIRROR}=URI"),
    }
}

/// The mirrors that sources in either of apt's formats name.
fn mirrors_of(sources: &str) -> Option<Mirrors> {
    let uris = sources.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("URIs:").or_else(|| line.strip_prefix("deb ")).unwrap_or_default();
        rest.split_whitespace().filter(|word| word.contains(":/")).map(|uri| uri.trim_end_matches('/'))
    });
    let (mut main, mut security) = (None, None);
    for uri in uris {
        if uri.ends_with("/debian") {
            main.get_or_insert_with(|| uri.to_owned());
        } else if uri.ends_with("debian-security") {
            security.get_or_insert_with(|| uri.to_owned());
        }
    }
    main.map(|main| Mirrors { main, security })
}

fn sources_list(suites: Suites, mirrors: &Mirrors) -> String {
    let mut list = String::new();
    for suite in suites.names {
        let options = format!("[arch=amd64 signed-by={KEYRING}]");
        list.push_str(&format!("deb {options} {} {suite} main\n", mirrors.main));
        if let Some(security) = mirrors.security.as_ref().filter(|_| suites.security) {
            list.push_str(&format!("deb {options} {security} {suite}-security main\n"));
        }
    }
    list
}

/// The `Version` and `Depends` of each stanza that `apt-cache show` prints, which is newest first.
fn versions(shown: &str) -> Vec<(String, String)> {
    let field = |stanza: &str, name: &str| {
        let line = stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::to_owned)
    };
    let stanzas = shown.split("\n\n");
    stanzas.filter_map(|s| Some((field(s, "Version")?, field(s, "Depends").unwrap_or_default()))).collect()
}

fn is_recent(stamp: &Path) -> bool {
    let day = Duration::from_secs(24 * 3600);
    let at = fs::metadata(stamp).and_then(|meta| meta.modified());
    at.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < day))
}
