//! Images that are damaged, changed or replaced while they are served: a guest gets the bytes of its image, or its end.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rekindle_tests::patience::{SOON, until};
use rekindle_tests::{Case, Done, Image, PageServer, Scratch, Vm, cases, rekindle};
use snapshot_format::pages::CHUNK_BYTES;

use crate::KVM;
use crate::ways::{RIGHT, bake, restore, restore_from, state_of};

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "pages",
        KVM,
        [
            a_damaged_page_ends_the_guest_and_is_named,
            a_damaged_page_that_nobody_asks_for_harms_nobody,
            a_flipped_bit_of_a_pack_is_never_delivered,
            a_file_that_is_cut_off_ends_the_guest,
            a_file_that_is_overwritten_ends_the_guest,
            a_file_that_is_touched_goes_on_being_served,
            damage_between_two_guests_of_one_server_reaches_neither,
            a_file_that_is_replaced_goes_on_being_served,
            an_image_that_is_removed_goes_on_being_served,
        ]
    )
}

/// Where spark's fill is for sure.
const FILL: u64 = 40 << 20;

/// Flips a bit, and nothing else.
fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("a copy can be written");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is as long");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("a copy can be written");
}

/// The guest has ended for want of a page of the chunk that begins at `chunk`, and has not gone on with anything else.
#[track_caller]
fn lost_in(done: Done, chunk: u64, says: &[&str]) {
    assert!(!done.stdout.contains("bad ") && !done.stdout.contains("ok verified"), "{done:?}");
    let said = done.fails(5, says);
    let (_, page) = said.split_once("the page at 0x").unwrap_or_else(|| panic!("no page is named: {said}"));
    let page = page.split(' ').next().and_then(|page| u64::from_str_radix(page, 16).ok());
    let page = page.unwrap_or_else(|| panic!("no page is named: {said}"));
    assert!(
        (chunk..chunk + CHUNK_BYTES).contains(&page),
        "{page:#x} is not in the chunk at {chunk:#x}: {said}"
    );
}

/// Both ways: a thread of the VM's own, and a server.
#[track_caller]
fn both_ways(image: &Image, bare: &Image, check: impl Fn(Vm)) {
    check(restore(image, &["--memory-mode", "lazy"]));
    let server = PageServer::serve([image.path()]);
    check(restore_from(server.socket(), bare, &[]));
    server.metric_comes_to("lost_total", |now| now == 1);
    server.metric_comes_to("sessions", |now| now == 0);
    server.stop();
}

fn a_damaged_page_ends_the_guest_and_is_named() {
    let here = Scratch::new();
    let image = bake(&here);
    let bare = state_of(&image, &here, "bare");
    flip(&image.memory(), FILL + 0x1234);
    both_ways(&image, &bare, |mut vm| {
        vm.try_send("verify");
        lost_in(vm.wait_exit(), FILL, &["checksum", "the index says"]);
    });
}

/// The page is a hole in what the guest uses: whoever never touches it lives, and is saved whole without it.
fn a_damaged_page_that_nobody_asks_for_harms_nobody() {
    let here = Scratch::new();
    let image = bake(&here);
    flip(&image.memory(), FILL);
    let server = PageServer::serve([image.path()]);
    let mut vm = restore_from(server.socket(), &image, &[]);
    vm.expect("spark: ready");
    assert_eq!(vm.ask("touch read 8M"), "ok touched 2048 pages");
    assert_eq!(vm.ask("echo alive"), "ok alive");
    vm.stop();
    assert_eq!(server.metric("lost_total"), 0);
    server.stop();
}

fn a_flipped_bit_of_a_pack_is_never_delivered() {
    let here = Scratch::new();
    let image = bake(&here);
    let packed = here.path("packed");
    rekindle(["pack".as_ref(), image.path().as_os_str(), "--out".as_ref(), packed.as_os_str()]).ok();
    let len = fs::metadata(packed.join("memory-pack")).expect("there is a pack").len();
    let bare = state_of(&image, &here, "bare");
    // In the index, and in frames all over.
    for at in [9, 100, len / 7, len / 3, len / 2, len - 1] {
        let path = here.path("damaged");
        let damaged = Image::at(&packed).copy_to(path.clone());
        flip(&path.join("memory-pack"), at);
        let mut vm = restore(&damaged, &["--memory-mode", "lazy"]);
        vm.try_send("verify");
        let done = ended_or_right(vm);
        assert!(matches!(done.code, Some(0 | 3 | 5)), "bit at {at:#x}: {done:?}");
        let served = rekindle_tests::Launch::pages(["serve".as_ref(), path.as_os_str()])
            .args(["--socket".as_ref(), here.path("refused").as_os_str()]);
        if done.code == Some(3) {
            served.run().fails(3, &["error: ", "hint: "]);
        } else {
            let server = PageServer::serve([&path]);
            let mut vm = restore_from(server.socket(), &bare, &[]);
            vm.try_send("verify");
            let done = ended_or_right(vm);
            assert!(matches!(done.code, Some(0 | 5)), "bit at {at:#x}: {done:?}");
            server.stop();
        }
        fs::remove_dir_all(&path).expect("it is ours");
    }
}

/// Waits until the guest ends, or has said that its memory is right, and is told to end then.
#[track_caller]
fn ended_or_right(mut vm: Vm) -> Done {
    let settled = until(SOON, || (!vm.is_alive() || vm.stdout.text().contains(RIGHT)).then_some(()));
    assert!(settled.is_some(), "neither ends nor verifies: {}", vm.story());
    if vm.is_alive() {
        rekindle_tests::verbs::stop(&vm);
    }
    let done = vm.wait_exit();
    assert!(!done.stdout.contains("bad "), "{done:?}");
    done
}

/// Restores both ways a guest that has not touched its fill yet, has `change` do something to its image, and has it
/// verify.
#[track_caller]
fn changed_underneath(change: impl Fn(&Image), check: impl Fn(Vm)) {
    for served in [false, true] {
        let here = Scratch::new();
        let image = bake(&here);
        let bare = state_of(&image, &here, "bare");
        let server = PageServer::serve([image.path()]);
        let mut vm = match served {
            true => restore_from(server.socket(), &bare, &[]),
            false => restore(&image, &["--memory-mode", "lazy"]),
        };
        vm.expect("spark: ready");
        change(&image);
        vm.try_send("verify");
        check(vm);
        server.stop();
    }
}

fn a_file_that_is_cut_off_ends_the_guest() {
    let cut = |image: &Image| {
        let file = OpenOptions::new().write(true).open(image.memory()).expect("it is ours");
        file.set_len(FILL).expect("it can be cut off");
    };
    changed_underneath(cut, |mut vm| {
        let done = vm.wait_exit();
        assert!(!done.stdout.contains("bad ") && !done.stdout.contains("ok verified"), "{done:?}");
        done.fails(5, &["the page at 0x", "was changed while it was served"]);
    });
}

/// With bytes as good as any, but others.
fn a_file_that_is_overwritten_ends_the_guest() {
    let overwrite = |image: &Image| {
        let file = OpenOptions::new().write(true).open(image.memory()).expect("it is ours");
        let bytes = vec![0x5a; 4 << 20];
        (0..16)
            .for_each(|n| file.write_all_at(&bytes, n * (4 << 20) + (8 << 20)).expect("it can be written"));
    };
    changed_underneath(overwrite, |mut vm| {
        let done = vm.wait_exit();
        assert!(!done.stdout.contains("bad ") && !done.stdout.contains("ok verified"), "{done:?}");
        done.fails(5, &["the page at 0x"]);
    });
}

/// The bytes are the same, and that is looked at.
fn a_file_that_is_touched_goes_on_being_served() {
    let touch = |image: &Image| {
        let file = OpenOptions::new().write(true).open(image.memory()).expect("it is ours");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
        file.set_times(fs::FileTimes::new().set_modified(later)).expect("a time can be set");
    };
    changed_underneath(touch, |mut vm| {
        vm.expect(RIGHT);
        vm.stop();
    });
}

/// The server has compared every chunk with its checksum for the first guest, and the file's time was put back.
fn damage_between_two_guests_of_one_server_reaches_neither() {
    let here = Scratch::new();
    let image = bake(&here);
    let bare = state_of(&image, &here, "bare");
    let server = PageServer::serve([image.path()]);
    let mut first = restore_from(server.socket(), &bare, &[]);
    assert_eq!(first.ask("verify"), RIGHT);
    first.stop();
    let before = fs::metadata(image.memory()).and_then(|about| about.modified()).expect("it is there");
    let file = OpenOptions::new().read(true).write(true).open(image.memory()).expect("it is ours");
    let mut damaged = 0;
    for at in (0..file.metadata().expect("it is there").len()).step_by(4096) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at + 100).expect("it can be read");
        if byte != [0] {
            file.write_all_at(&[byte[0] ^ 1], at + 100).expect("it can be written");
            damaged += 1;
        }
    }
    assert!(damaged > 100, "{damaged} pages have data");
    file.set_times(fs::FileTimes::new().set_modified(before)).expect("a time can be set");
    let mut second = restore_from(server.socket(), &bare, &[]);
    second.try_send("verify");
    let done = ended_or_right(second);
    done.fails(5, &["the page at 0x", "is damaged at offset 0x"]);
    server.stop();
}

fn a_file_that_is_replaced_goes_on_being_served() {
    let replace = |image: &Image| {
        let new = image.path().join("new");
        let file = File::create(&new).expect("it is ours");
        file.set_len(fs::metadata(image.memory()).expect("it is there").len()).expect("it can be as long");
        fs::rename(&new, image.memory()).expect("it can be renamed");
    };
    changed_underneath(replace, |mut vm| {
        vm.expect(RIGHT);
        vm.stop();
    });
}

fn an_image_that_is_removed_goes_on_being_served() {
    let remove = |image: &Image| fs::remove_dir_all(image.path()).expect("it is ours");
    changed_underneath(remove, |mut vm| {
        vm.expect(RIGHT);
        vm.stop();
    });
}
