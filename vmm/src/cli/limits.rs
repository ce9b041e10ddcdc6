//! Which limits of the host a process has reached, by name, for hints.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// What to raise where no process and no thread can be made any more.
pub(super) fn of_threads() -> String {
    let user = getrlimit(Resource::Nproc).current.map_or_else(
        || "`ulimit -u`".to_owned(),
        |most| format!("`ulimit -u` (it is {most} for all processes of this user)"),
    );
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    match pids_max(&groups, Path::new("/sys/fs/cgroup")) {
        Some((group, most)) => format!(
            "no more processes or threads can be started: raise {user}, or `pids.max` of the cgroup `{}` (it is {most})",
            group.display()
        ),
        None => format!("no more processes or threads can be started: raise {user}"),
    }
}

/// The lowest `pids.max` that counts for a process, and its cgroup. `groups` is its `/proc/PID/cgroup` (cgroups(7)), `root`
/// where cgroups are mounted.
pub(super) fn pids_max(groups: &str, root: &Path) -> Option<(PathBuf, u64)> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
        let mounted = match controllers {
            // Version 2, alone or beside version 1.
            "" => ["", "unified"].map(|name| root.join(name)).to_vec(),
            names if names.split(',').any(|name| name == "pids") => vec![root.join("pids")],
            _ => return None,
        };
        Some((mounted, PathBuf::from(group)))
    };
    let limits = groups.lines().filter_map(line).flat_map(|(mounted, group)| {
        let limit = move |ancestor: &Path| {
            let below = ancestor.strip_prefix("/").ok()?;
            let read = |mount: &PathBuf| fs::read_to_string(mount.join(below).join("pids.max")).ok();
            Some((ancestor.to_owned(), mounted.iter().find_map(read)?.trim().parse().ok()?))
        };
        group.ancestors().filter_map(limit).collect::<Vec<_>>()
    });
    limits.min_by_key(|(_, most): &(PathBuf, u64)| *most)
}
