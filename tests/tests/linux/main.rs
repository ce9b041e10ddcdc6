//! Stock kernels, as a distribution ships them: booted, snapshotted, killed, restored, and asked what they noticed.
//!
//! What the guest does is `tests/guests/stock.sh`. Times are the guest's own and the host's; where the host is the lab,
//! neither says anything about speed, so nothing here demands any.

mod balloon;
mod checks;
mod devices;
mod disks;
mod endings;
mod guest;
mod identity;
mod lazy;
mod lines;
mod lives;
mod load;
mod nets;
mod ready;
mod shelf;
mod time;
mod vsock;

use std::process::ExitCode;

use rekindle_tests::{Case, Need};

use shelf::{CLOUD_6_1, CLOUD_6_12, GENERIC_6_1, Kernel};

fn main() -> ExitCode {
    let case = |name: &str, run: fn()| Case::new(format!("linux::{name}"), &[Need::StockGuests], run);
    let life = |kernel: Kernel, cpus: u32| {
        let name = format!("linux::comes_back_from_an_image_{}_on_{cpus}", kernel.identifier());
        Case::new(name, &[Need::StockGuests], move || lives::comes_back(kernel, cpus))
    };
    let shelf_life = |kernel: Kernel| {
        let name = format!("linux::wakes_after_a_month_on_the_shelf_{}", kernel.identifier());
        Case::new(name, &[Need::StockGuests], move || time::wakes_after_a_month(kernel))
    };
    let apart = |kernel: Kernel| {
        let name = format!("linux::clones_draw_other_numbers_{}", kernel.identifier());
        Case::new(name, &[Need::StockGuests], move || identity::clones_draw_other_numbers(kernel))
    };
    let ahead = |kernel: Kernel| {
        let name = format!("linux::clones_share_what_was_read_ahead_{}", kernel.identifier());
        Case::new(name, &[Need::StockGuests], move || identity::clones_share_what_was_read_ahead(kernel))
    };
    let cases = vec![
        life(CLOUD_6_1, 1),
        life(CLOUD_6_1, 2),
        life(GENERIC_6_1, 2),
        life(CLOUD_6_12, 2),
        case("ten_restores_of_one_image_two_at_a_time", lives::ten_restores),
        case("three_generations", lives::three_generations),
        case("a_second_generation_and_a_lazy_one_on_one_cpu", lives::second_generation_and_lazy),
        case("snapshot_while_paused", lives::snapshot_while_paused),
        case("eight_cpus", lives::eight_cpus),
        case("two_cpus_without_acpi", lives::two_cpus_without_acpi),
        shelf_life(CLOUD_6_1),
        shelf_life(CLOUD_6_12),
        Case::new("linux::a_guest_at_work_is_spared_a_month_cloud_6_12", &[Need::StockGuests], || {
            time::a_guest_at_work_is_spared_a_month(CLOUD_6_12)
        }),
        case("tscs_stay_in_step", time::tscs_stay_in_step),
        apart(GENERIC_6_1),
        apart(CLOUD_6_12),
        case("clones_without_a_driver_are_reseeded_by_hand", identity::reseeded_by_hand),
        ahead(CLOUD_6_1),
        ahead(CLOUD_6_12),
        case("a_balloon_empties_the_image", balloon::empties_the_image),
        case("a_bake_waits_for_free_memory", balloon::a_bake_waits_for_free_memory),
        Case::new(
            "linux::a_conversation_goes_on_through_another_tap",
            &[Need::StockGuests, Need::Taps],
            nets::a_conversation_goes_on_through_another_tap,
        ),
        case("sockets_carry_data_and_listen_again_after_a_restore", vsock::carries_data_and_listens_again),
        case("bake_until_a_connection", vsock::bakes_until_a_connection),
        Case::new(
            "linux::all_kinds_of_devices_are_found",
            &[Need::StockGuests, Need::Taps],
            devices::all_are_found,
        ),
        case("a_file_system_under_load_comes_back", disks::a_file_system_under_load_comes_back),
        case("clones_write_over_one_base", disks::clones_write_over_one_base),
        case("a_full_disk_under_an_overlay", disks::a_full_disk_under_an_overlay),
        case("power_off", endings::power_off),
        case("reboot", endings::reboot),
        case("panic_without_a_driver_is_a_reset", endings::panic_without_a_driver),
        case("triple_fault", endings::triple_fault),
        case("ctrl_alt_del_to_the_kernel", endings::ctrl_alt_del_to_the_kernel),
        case("ctrl_alt_del_to_init", endings::ctrl_alt_del_to_init),
        case("bake_until_a_line", ready::a_line),
        case("bake_until_a_byte_from_a_program", ready::a_byte_from_a_program),
        case("bake_until_a_byte_from_a_shell", ready::a_byte_from_a_shell),
        case("twenty_snapshots_under_load", load::twenty_snapshots),
        case("a_lazily_restored_guest_under_load_is_as_right_as_a_mapped_one", lazy::as_right_as_mapped),
    ];
    let code = rekindle_tests::main(cases, 2);
    shelf::clear();
    code
}
