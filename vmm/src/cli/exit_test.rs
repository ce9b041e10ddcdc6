//! How failures look, and which code they end with.

use anyhow::anyhow;
use vmm::config;
use vmm::control::{self, Fault};
use vmm::supervisor;

use super::exit::{Exit, Failure, printable};
use super::{classify, doctor};

#[test]
fn a_failure_is_printed_with_its_causes_and_its_hint() {
    let failure = Failure {
        exit: Exit::Damaged,
        error: anyhow!("not a page index").context("section `memory`").context("cannot restore `warm`"),
        hint: Some("`rekindle verify warm` says more".into()),
    };
    let expected = "\
error: cannot restore `warm`
  caused by: section `memory`
  caused by: not a page index
  hint: `rekindle verify warm` says more";
    assert_eq!(failure.render(), expected);
}

#[test]
fn errors_end_with_the_documented_codes() {
    let fault = |exit_code| control::Error::Fault(Fault { message: "no".into(), exit_code });
    for (error, exit) in [
        (anyhow!("anything"), Exit::Failed),
        (config::Error::CpuCount { value: "0".into() }.into(), Exit::Usage),
        (anyhow::Error::from(config::Error::CpuCount { value: "0".into() }).context("outer"), Exit::Usage),
        (control::Error::InUse { path: "p".into() }.into(), Exit::Failed),
        (fault(1).into(), Exit::Failed),
        (fault(3).into(), Exit::Damaged),
        (fault(4).into(), Exit::Unsupported),
        (fault(5).into(), Exit::GuestFailed),
        (fault(77).into(), Exit::Failed),
        (doctor::CannotRun::test_value().into(), Exit::Unsupported),
    ] {
        assert_eq!(classify(error).exit, exit);
    }
}

/// Whichever library made the call that failed, and whatever was being done.
#[test]
fn too_few_descriptors_are_named_as_such() {
    let errno = || vmm_sys_util::errno::Error::new(libc::EMFILE);
    let context = "restore it on another host";
    for error in [
        anyhow::Error::from(std::io::Error::from(errno())).context(context),
        anyhow::Error::from(errno()).context(context),
        supervisor::Error::Events(event_manager::Error::Epoll(errno())).into(),
    ] {
        let failure = classify(error);
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(failure.hint.as_deref(), Some("too many open files: raise `ulimit -n`"));
    }
}

#[test]
fn a_vms_own_message_is_printed_as_the_vm_would_print_it() {
    let sent =
        Fault::refused("cannot write `i`\n  caused by: no space left on device").with_hint("free some");
    let expected = "error: cannot write `i`\n  caused by: no space left on device\n  hint: free some";
    assert_eq!(classify(control::Error::Fault(sent).into()).render(), expected);
}

#[test]
fn control_errors_bring_their_hints() {
    let failure = classify(control::Error::InUse { path: "p".into() }.into());
    assert!(failure.render().contains("\n  hint: "));
}

#[test]
fn what_would_steer_a_terminal_is_made_visible() {
    assert_eq!(printable("a\u{1b}[2J\rb\nc\u{9b}é"), "a\\u{1b}[2J\\rb\nc\\u{9b}é");
}
