//! Where and how a run took place, and what of that it could not control.

use std::fs;

use anyhow::Result;
use serde::Serialize;
use vmm::machine::KvmKind;

use crate::program::Program;

#[cfg(test)]
#[path = "conditions_test.rs"]
mod conditions_test;

/// What numbers mean nothing without.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Conditions {
    /// What the measured program says of itself.
    pub version: String,
    /// The processor's name.
    pub cpu: String,
    /// How many of them this process may use.
    pub cpus: usize,
    /// The host's kernel.
    pub kernel: String,
    /// The kind of KVM.
    pub kvm: String,
    /// The frequency governor.
    pub governor: String,
    /// When the kernel uses huge pages.
    pub transparent_huge_pages: String,
    /// The load averages when the run began.
    pub load: String,
    /// Whether images were in the page cache.
    pub page_cache: &'static str,
}

/// What is said of a thing that the host does not tell.
const UNKNOWN: &str = "unknown";

impl Conditions {
    /// Of this host, now.
    pub fn now(program: &Program) -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let load = read("/proc/loadavg");
        Ok(Self {
            version: program.version()?,
            cpu: cpu_name(&cpuinfo).unwrap_or(UNKNOWN).to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            kvm: KvmKind::detect().name().to_owned(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            transparent_huge_pages: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")).to_owned(),
            load: load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            // Every image is restored a few times before it counts, and fits into memory.
            page_cache: "hot",
        })
    }

    /// What may have disturbed the run, each with what to do about it.
    pub fn cautions(&self) -> Vec<String> {
        let mut cautions = Vec::new();
        let load = self.load.split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or_default();
        if load > self.cpus as f64 / 4.0 {
            cautions.push(format!(
                "other work was running (load average {load} on {} CPUs): stop it, or compare minima",
                self.cpus
            ));
        }
        if !["performance", UNKNOWN].contains(&self.governor.as_str()) {
            cautions.push(format!(
                "the frequency governor is `{}`: set `performance` (`cpupower frequency-set -g performance`)",
                self.governor
            ));
        }
        if self.kvm == KvmKind::Pvm.name() {
            let caution = "this KVM emulates guest kernel mode: a guest that boots pays more for it here";
            cautions.push(caution.to_owned());
        }
        cautions
    }

    /// Names and values, for people.
    pub fn pairs(&self) -> [(&'static str, String); 9] {
        let Self { version, cpu, cpus, kernel, kvm, governor, transparent_huge_pages, load, page_cache } =
            self;
        [
            ("version", version.clone()),
            ("CPU", cpu.clone()),
            ("CPUs", cpus.to_string()),
            ("host kernel", kernel.clone()),
            ("KVM", kvm.clone()),
            ("governor", governor.clone()),
            ("transparent huge pages", transparent_huge_pages.clone()),
            ("load average at start", load.clone()),
            ("page cache", (*page_cache).to_owned()),
        ]
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

fn cpu_name(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// The one of several words that stands in brackets.
fn chosen(words: &str) -> &str {
    words.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(words, |(word, _)| word)
}
