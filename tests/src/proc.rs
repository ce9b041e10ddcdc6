//! What a process holds, as `/proc` has it.

use std::fs;

/// Descriptors, threads and mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Mappings.
    pub mappings: usize,
}

impl Holdings {
    /// Of this process.
    pub fn here() -> Self {
        Self::at("self")
    }

    /// Of another one.
    pub fn of(pid: u32) -> Self {
        Self::at(&pid.to_string())
    }

    fn at(process: &str) -> Self {
        let count = |what: &str| {
            let listed = fs::read_dir(format!("/proc/{process}/{what}")).expect("the process is there");
            listed.count()
        };
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("the process is there");
        Self { descriptors: count("fd"), threads: count("task"), mappings: maps.lines().count() }
    }
}
