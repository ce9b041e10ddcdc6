//! What is asked of a balloon that is not there, or whose guest does not know it.

use rekindle_tests::{Case, Scratch, Vm, cases, rekindle, verbs};

use crate::KVM;

pub(crate) fn cases() -> Vec<Case> {
    cases!("spark", KVM, [a_balloon_that_cannot_be_had_is_refused, the_size_of_a_balloon_is_set_and_survives])
}

fn a_balloon_that_cannot_be_had_is_refused() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready");
    let reclaiming = |vm: &Vm| {
        verbs::snapshot_command(vm.socket(), &here.path("image")).args(["--resume", "--reclaim", "10s"]).run()
    };
    reclaiming(&vm).fails(1, &["the VM has no balloon", "--balloon"]);
    for (method, path, body) in [
        ("GET", "/balloon", ""),
        ("PATCH", "/balloon", r#"{"amount_mib":1}"#),
        ("GET", "/balloon/statistics", ""),
    ] {
        let (status, said) =
            verbs::request(vm.socket(), method, path, body).expect("the VM serves its socket");
        assert!(status == 400 && said.contains("the VM has no balloon"), "{said}");
    }
    vm.stop();

    let mut vm = Vm::boot(["--memory", "32M", "--balloon"]);
    vm.expect("spark: ready");
    reclaiming(&vm).fails(1, &["does not say how much of its memory is free", "virtio-balloon"]);
    verbs::pause(&vm).ok();
    reclaiming(&vm).fails(1, &["a paused guest cannot give memory back", "resume it"]);
    vm.stop();
    let out = here.path("baked");
    let out = out.to_str().expect("scratch paths are UTF-8");
    let bake = ["bake", "--ready", "port", "--memory", "32M", "--out", out, "--reclaim", "10s"];
    rekindle(bake).fails(2, &["--balloon"]);
    rekindle([&bake[..], &["--balloon"]].concat()).fails(1, &["does not say how much of its memory is free"]);
    assert!(here.entries().is_empty(), "nothing was written");
}

fn the_size_of_a_balloon_is_set_and_survives() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M", "--balloon"]);
    vm.expect("spark: ready");
    let ask = |vm: &Vm, method: &str, body: &str| {
        verbs::request(vm.socket(), method, "/balloon", body).expect("the VM serves its socket")
    };
    assert_eq!(ask(&vm, "GET", ""), (200, r#"{"amount_mib":0}"#.to_owned()));
    assert_eq!(ask(&vm, "PATCH", r#"{"amount_mib":7}"#).0, 204);
    let (status, said) = ask(&vm, "PATCH", r#"{"amount_mib":33}"#);
    assert!(status == 400 && said.contains("33 MiB is larger than the guest, which has 32"), "{said}");
    let image = verbs::snapshot(&vm, here.path("image"));
    vm.kill();
    let mut vm = Vm::restore(&image);
    assert_eq!(vm.ask("echo alive"), "ok alive");
    assert_eq!(ask(&vm, "GET", ""), (200, r#"{"amount_mib":7}"#.to_owned()));
    vm.stop();
}
