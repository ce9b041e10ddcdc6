//! A guest that computes while its memory is still on its way.

use std::path::{Path, PathBuf};

use rekindle_tests::{Image, Launch, PageServer, Scratch, note, rekindle, verbs};

use crate::guest::Guest;
use crate::load::{is_unharmed, rounds};
use crate::shelf::CLOUD_6_1;

const MIB: u64 = 1 << 20;

/// A guest that sums page cache and rewrites memory of its own on both CPUs is as right as from a mapped image, whoever
/// delivers: nothing that it reads is missing, zero or of another page. And what it gives back meanwhile stays away.
pub(crate) fn as_right_as_mapped() {
    let here = Scratch::new();
    let mut guest = Guest { vm: Guest::launch("boot", CLOUD_6_1, 2, "").args(["--balloon"]).vm() };
    guest.next("guest");
    guest.ask("module");
    let sum = guest.ask("file 32");
    guest.ask("clear");
    guest.send("watch");
    guest.send("load");
    rounds(&mut guest, 1);
    let image = verbs::snapshot(&guest.vm, here.path("image"));
    guest.vm.kill();
    let before = image.fingerprint();
    let packed = here.path("packed");
    rekindle(["pack".as_ref(), image.path().as_os_str(), "--out".as_ref(), packed.as_os_str()]).ok();
    is_right(Guest::restore(&image), &sum);
    is_right(lazily(image.path(), None), &sum);
    is_right(lazily(&packed, None), &sum);
    gives_back(lazily(image.path(), None), &sum, here.path("emptied-by-itself"));

    let server = PageServer::serve([&packed]);
    let bare = here.path("bare");
    std::fs::create_dir(&bare).expect("a scratch directory can be made");
    std::fs::copy(image.state(), bare.join("state")).expect("the state can be copied");
    is_right(lazily(&bare, Some(server.socket())), &sum);
    gives_back(lazily(&bare, Some(server.socket())), &sum, here.path("emptied"));
    server.metric_comes_to("sessions", |now| now == 0);
    assert_eq!((server.metric("sessions_total"), server.metric("lost_total")), (2, 0));
    server.stop();
    assert_eq!(image.fingerprint(), before);
}

fn lazily(image: &Path, server: Option<&Path>) -> Guest {
    let launch =
        Launch::new(["restore".as_ref(), image.as_os_str(), "--pages-timeout".as_ref(), "5m".as_ref()]);
    let vm = match server {
        Some(socket) => launch.args(["--pages".as_ref(), socket.as_os_str()]).vm(),
        None => launch.args(["--memory-mode", "lazy"]).vm(),
    };
    Guest { vm }
}

#[track_caller]
fn is_right(mut guest: Guest, sum: &str) {
    rounds(&mut guest, 2);
    assert_eq!(guest.ask("sum"), sum);
    is_unharmed(guest);
}

/// All that is free goes through the balloon while most of it has never been delivered.
#[track_caller]
fn gives_back(guest: Guest, sum: &str, out: PathBuf) {
    guest.vm.serves();
    let command = verbs::snapshot_command(guest.vm.socket(), &out).args(["--reclaim", "1m", "--resume"]);
    command.run().ok();
    let image = Image::at(out);
    image.verifies();
    is_right(guest, sum);
    note(format!(
        "a lazily restored guest of 256 MiB that gave back what was free: {} MiB",
        image.disk_bytes() / MIB
    ));
    is_right(Guest::restore(&image), sum);
}
