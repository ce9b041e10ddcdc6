//! The command line of `rekindle-pages`: each line that makes no sense says what went wrong and what to do, and what runs can
//! be looked at.

use std::os::unix::net::UnixListener;

use rekindle_tests::{Case, Launch, PageServer, Scratch, cases};

use crate::standin::raw;
use crate::ways::{bake, restore_from};
use crate::{KVM, UFFD};

pub(crate) fn cases() -> Vec<Case> {
    let here = cases!("pages", UFFD, [what_cannot_be_served_is_named, one_path_has_one_server]);
    let guests = cases!("pages", KVM, [what_a_server_does_can_be_looked_at]);
    here.into_iter().chain(guests).collect()
}

fn serve(socket: &std::path::Path) -> Launch {
    Launch::pages(["serve".as_ref(), "--socket".as_ref(), socket.as_os_str()])
}

fn what_cannot_be_served_is_named() {
    let here = Scratch::new();
    let socket = here.path("pages");
    let sound = raw(&here, "sound", 1 << 20, 1);
    let odd = here.file("odd", vec![1; 5000]);
    let empty = here.path("empty");
    std::fs::create_dir(&empty).expect("a scratch directory can be made");
    let missing = here.path("missing");
    let stack = format!("{}+{}", sound.display(), missing.display());
    let before = here.entries();
    let rows: &[(&std::ffi::OsStr, i32, &[&str])] = &[
        (missing.as_os_str(), 1, &["error: ", "missing", "No such file", "hint: "]),
        (odd.as_os_str(), 3, &["error: ", "odd", "hint: "]),
        (empty.as_os_str(), 3, &["error: ", "empty", "hint: "]),
        (stack.as_ref(), 1, &["error: ", "missing", "No such file"]),
    ];
    for (image, code, says) in rows {
        serve(&socket).args([image]).run().fails(*code, says);
        // One of several is enough.
        serve(&socket).args([sound.as_os_str(), image]).run().fails(*code, says);
    }
    let usages: &[&[&str]] =
        &[&[], &["--grain", "5K"], &["--grain", "4M"], &["--max-sessions", "0"], &["--cache", "x"]];
    for more in usages {
        let named = if more.is_empty() { None } else { Some(&sound) };
        serve(&socket).args(*more).args(named).run().fails(2, &["error: "]);
    }
    let metrics = here.path("sound");
    serve(&socket)
        .args(["--metrics".as_ref(), metrics.as_os_str(), sound.as_os_str()])
        .run()
        .fails(1, &["exists and is not a socket", "hint: remove it, or give another path"]);
    assert_eq!(here.entries(), before, "something is left behind");
    // A trace empties its file, but none that is served.
    let bytes = std::fs::read(&sound).expect("it is there");
    for stack in [sound.as_os_str().to_owned(), format!("{0}+{0}", sound.display()).into()] {
        let trace = ["--trace".as_ref(), sound.as_os_str(), stack.as_os_str()];
        serve(&socket).args(trace).run().fails(2, &["is part of what is served", "hint: give another path"]);
    }
    assert!(std::fs::read(&sound).expect("it is there") == bytes, "what is served was written to");
}

/// The second is told so, and the first goes on; what a dead one has left is taken over.
fn one_path_has_one_server() {
    let here = Scratch::new();
    let file = raw(&here, "memory", 1 << 20, 1);
    let socket = here.path("pages");
    drop(UnixListener::bind(&socket).expect("a socket can be made"));
    let first = PageServer::serve_at(&socket, [&file]);
    let says = ["another server listens on `", "hint: give another path, or end the other server"];
    serve(&socket).args([&file]).run().fails(1, &says);
    serve(&file).args([&file]).run().fails(1, &["exists and is not a socket", "hint: remove it"]);
    serve(&here.path("nowhere/pages")).args([&file]).run().fails(1, &["cannot listen on `", "hint: "]);
    assert!(socket.exists() && file.exists());
    first.kill();
    let second = PageServer::serve_at(&socket, [&file]);
    // Whoever finds another's socket at his path leaves it there.
    std::fs::remove_file(&socket).expect("it is there");
    let third = PageServer::serve_at(&socket, [&file]);
    second.stop();
    assert!(socket.exists(), "it has taken another's socket along");
    third.stop();
    assert_eq!(here.entries(), ["memory"]);
}

fn what_a_server_does_can_be_looked_at() {
    let here = Scratch::new();
    let image = bake(&here);
    let server = PageServer::serve([image.path()]);
    let top = |more: &[&str]| {
        let asked =
            Launch::pages(["top".as_ref(), "--metrics".as_ref(), server.metrics_socket().as_os_str()]);
        asked.args(more).run()
    };
    let table = top(&["--once"]).ok();
    assert!(table.starts_with("0 VMs served, 0 in all, 0 refused, 0 lost a page\n"), "{table}");
    let mut vm = restore_from(server.socket(), &image, &[]);
    vm.expect("spark: ready");
    assert_eq!(vm.ask("touch read 16M"), "ok touched 4096 pages");
    let table = top(&["--once"]).ok();
    assert!(table.starts_with("1 VMs served, 1 in all, 0 refused, 0 lost a page\n"), "{table}");
    let numbers = table.lines().last().expect("a line for the session").split_whitespace();
    let numbers: Vec<f64> = numbers.map(|n| n.parse().unwrap_or(0.0)).collect();
    // Faults, then MiB.
    assert!(numbers[1] > 10.0 && numbers[4] > 7.0, "{table}");
    vm.stop();
    server.metric_comes_to("sessions", |now| now == 0);
    let table = top(&["--once"]).ok();
    assert!(table.starts_with("0 VMs served, 1 in all"), "{table}");
    let gone = server.metrics_socket().to_owned();
    Launch::pages(["top".as_ref(), "--metrics".as_ref(), server.socket().as_os_str(), "--once".as_ref()])
        .run()
        .fails(1, &["error: "]);
    server.stop();
    let asked = Launch::pages(["top".as_ref(), "--metrics".as_ref(), gone.as_os_str()]);
    asked.run().fails(1, &["cannot ask the server at `", "No such file"]);
}
