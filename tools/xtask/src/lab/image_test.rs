//! What is put into the command's script.

use super::*;

#[test]
fn quoting_survives_a_real_shell() {
    let word = OsStr::new("it's \"$HOME\" `x` \\ *\n;");
    let mut line = b"printf %s ".to_vec();
    line.extend(quoted(word));
    let out = std::process::Command::new("sh").arg("-c").arg(OsStr::from_bytes(&line)).output().unwrap();
    assert_eq!(out.stdout, word.as_bytes());
}

#[test]
fn only_listed_variables_are_passed_on() {
    let outer = ["PATH", "CARGO_TERM_COLOR", "REKINDLE_X", "CARGO_PKG_NAME", "SSH_AUTH_SOCK", "MY_CARGO_"];
    let passed = passed(outer.iter().map(|name| (name.into(), "1".into())));
    let names: Vec<&OsStr> = passed.iter().map(|(name, _)| name.as_os_str()).collect();
    assert_eq!(names, ["PATH", "CARGO_TERM_COLOR", "REKINDLE_X"]);
}

#[test]
fn only_hidden_paths_are_kept_parents_first() {
    let paths = ["/srv/rekindle", "/tmp/target", "/tmpfoo", "/tmp", "/dev/shm/x", "/dev/kvm", "/tmp"]
        .map(PathBuf::from);
    assert_eq!(hidden(&paths), b"/dev/shm/x\n/tmp\n/tmp/target\n");
}
