//! The core: the tests that run on every kind of CPU and of kernel that there is a lab for, whatever this host is.
//!
//! Boot, snapshot, restore by mapping and lazily, a second generation and time, by the built-in guest and by a stock
//! Linux, and the demo. Short enough that Bochs runs it in minutes.

use anyhow::{Result, bail};

use super::in_lab::Place;
use crate::lab::{Cpu, HostKernel};

#[cfg(test)]
#[path = "core_test.rs"]
mod core_test;

const NAMES: [&str; 12] = [
    "spark::the_demo_shows_what_it_says",
    "spark::a_guest_is_whole_after_every_step_of_three_generations",
    "spark::time_never_goes_back_and_is_right_after_a_restore",
    "spark::ticks_go_on_across_a_snapshot_without_gap_or_repeat",
    "spark::a_timer_that_ran_out_while_the_image_lay_fires_at_once",
    "spark::a_restored_guest_ends_the_same_way",
    "spark::every_clone_is_somebody_else_and_the_original_stays_who_it_is",
    "spark::devices_answer_before_and_after_a_restore",
    "pages::memory_is_right_by_every_path",
    "pages::an_image_that_was_recorded_is_delivered",
    "linux::ten_restores_of_one_image_two_at_a_time",
    "linux::a_second_generation_and_a_lazy_one_on_one_cpu",
];

/// The names of the core's tests.
pub fn names() -> Vec<String> {
    NAMES.iter().map(|name| (*name).to_owned()).collect()
}

/// Too slow for Bochs, which runs some 50 million instructions a second: with a stock Linux in it, each takes a quarter of an
/// hour and more. `cargo xtask test --only-lab --cpu intel NAME` runs one of them there.
const NOT_ON_BOCHS: [&str; 3] = [
    "pages::an_image_that_was_recorded_is_delivered",
    "linux::ten_restores_of_one_image_two_at_a_time",
    "linux::a_second_generation_and_a_lazy_one_on_one_cpu",
];

fn on_bochs() -> Vec<String> {
    names().into_iter().filter(|name| !NOT_ON_BOCHS.contains(&name.as_str())).collect()
}

/// The labs for the core. `all` are the names of all tests, and `usual` of those that run in the usual lab anyway.
pub fn places(all: &[String], usual: &[String]) -> Result<Vec<Place>> {
    if let Some(name) = NAMES.iter().find(|name| !all.iter().any(|there| there == *name)) {
        bail!("there is no test {name}, which is one of the core");
    }
    let place = |label, cpu, host_kernel| Place { label, cpu, host_kernel, batches: vec![names()] };
    let mut places = vec![
        // The slowest one first.
        Place { batches: vec![on_bochs()], ..place("intel", Cpu::Intel, HostKernel::Usual) },
        place("oldest kernel", Cpu::Amd, HostKernel::Oldest),
        place("newest kernel", Cpu::Amd, HostKernel::Newest),
    ];
    let left: Vec<String> = names().into_iter().filter(|name| !usual.contains(name)).collect();
    if !left.is_empty() {
        places.push(Place { batches: vec![left], ..place("amd", Cpu::Amd, HostKernel::Usual) });
    }
    Ok(places)
}
