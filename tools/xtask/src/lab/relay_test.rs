//! A machine made of a shell: its ports are files that grow.

use super::*;
use crate::test::run::Heard;

fn machine(dir: &Path, script: &str) -> Machine {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(dir);
    Machine { command, ports: PORTS.map(|name| Port::File(dir.join(name))), has_screen: false }
}

fn ran(script: &str, limit: Duration) -> (Result<u8>, String) {
    let dir = tempfile::tempdir().unwrap();
    let out = Heard::default();
    let streams = Streams { out: Box::new(out.tee(io::sink())), err: Box::new(io::sink()) };
    (run(machine(dir.path(), script), streams, limit), out.text())
}

#[test]
fn everything_that_is_written_before_the_status_comes_through() {
    let script =
        "echo ready 1 >ctl; for i in 1 2 3; do echo $i >>out; sleep 0.1; done; : >err; echo exit 7 >>ctl";
    let (status, out) = ran(script, Duration::from_secs(20));
    assert_eq!((status.unwrap(), out.as_str()), (7, "1\n2\n3\n"));
}

#[test]
fn a_machine_that_dies_or_takes_too_long_is_an_error() {
    assert!(ran("echo ready 1 >ctl", Duration::from_secs(20)).0.is_err());
    let (late, _) = ran("exec sleep 30", Duration::from_millis(100));
    assert!(late.unwrap_err().to_string().contains("time limit"));
}

#[test]
fn the_terminal_of_a_screen_is_named() {
    assert_eq!(screen("Bochs connected to screen \"/dev/pts/3\""), Some("/dev/pts/3"));
    assert_eq!(screen("00000000000i[      ] reading configuration from bochsrc"), None);
}
