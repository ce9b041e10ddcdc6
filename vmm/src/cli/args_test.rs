//! Command lines, good and bad.

use std::path::PathBuf;

use clap::{CommandFactory, Parser};
use vmm::config::{
    BakeConfig, BootConfig, DeviceOverrides, DevicesConfig, DiskConfig, DiskId, GuestCid, KernelConfig,
    MemoryConfig, MemorySize, OverlayDir, RateLimitConfig, ReadyConfig, ReportTarget, RestoreConfig,
    SerialConfig, Switch, Timeout, VmConfig, VsockConfig,
};

use super::args::{Cli, Command};
use super::{Exit, classify, exit};

fn parse(line: &[&str]) -> Result<Command, clap::Error> {
    Cli::parse_line([&["rekindle"], line].concat().into_iter().map(Into::into)).map(|cli| cli.command)
}

fn boot(line: &[&str]) -> Result<BootConfig, vmm::config::Error> {
    match parse(&[&["boot"], line].concat()) {
        Ok(Command::Boot(args)) => args.try_into(),
        other => panic!("{other:?}"),
    }
}

fn disk(id: &str, path: &str, read_only: bool) -> DiskConfig {
    DiskConfig {
        id: DiskId::new(id).unwrap(),
        path: path.into(),
        read_only,
        overlay: false,
        limit: RateLimitConfig::default(),
    }
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn boot_without_options_runs_the_built_in_guest() {
    let expected = BootConfig {
        vm: VmConfig {
            kernel: KernelConfig::Spark,
            cmdline: None,
            memory: MemorySize::DEFAULT,
            cpus: "1".parse().unwrap(),
            serial: SerialConfig::Stdio,
            devices: DevicesConfig::default(),
        },
        api_socket: None,
    };
    assert_eq!(boot(&[]).unwrap(), expected);
}

#[test]
fn boot_with_every_option() {
    let line = "--kernel k --initrd i --cmdline -x --memory 1G --cpus 32 --serial file:log --api-socket s --rng --balloon \
                --disk root=a=b --disk data=c,readonly --net eth0=tap:t0,rx-ops=7 --vsock uds=v,cid=3 --overlay-dir o";
    let line: Vec<_> = line.split(' ').collect();
    let expected = BootConfig {
        vm: VmConfig {
            kernel: KernelConfig::File { kernel: "k".into(), initrd: Some("i".into()) },
            cmdline: Some("-x".into()),
            memory: "1G".parse().unwrap(),
            cpus: "32".parse().unwrap(),
            serial: SerialConfig::File("log".into()),
            devices: DevicesConfig {
                disks: vec![disk("root", "a=b", false), disk("data", "c", true)],
                overlay_dir: OverlayDir("o".into()),
                rng: true,
                balloon: true,
                nets: vec!["eth0=tap:t0,rx-ops=7".parse().unwrap()],
                vsock: Some(VsockConfig { cid: GuestCid::new(3).unwrap(), path: "v".into(), ready: None }),
            },
        },
        api_socket: Some("s".into()),
    };
    assert_eq!(boot(&line).unwrap(), expected);
}

#[test]
fn bake_and_restore() {
    let Ok(Command::Bake(args)) = parse(&["bake", "--ready", "serial:login:", "--out", "o"]) else {
        panic!()
    };
    let BakeConfig { vm, ready, out, timeout, reclaim, api_socket } = args.try_into().unwrap();
    assert_eq!(vm, VmConfig { serial: SerialConfig::Null, ..VmConfig::default() });
    assert!(matches!(ready, ReadyConfig::Serial(pattern) if pattern.regex().as_str() == "login:"));
    assert_eq!((out, timeout, api_socket), (PathBuf::from("o"), Timeout::DEFAULT, None));
    assert_eq!(reclaim, None);

    let line = [
        "restore",
        "warm",
        "--memory-mode",
        "mmap",
        "--serial",
        "null",
        "--report",
        "-",
        "--api-socket",
        "s",
        "--disk",
        "root=other",
        "--net",
        "eth0=tap:t1",
        "--vsock",
        "uds=w",
        "--overlay-dir",
        "o",
    ];
    let Ok(Command::Restore(args)) = parse(&line) else { panic!() };
    let expected = RestoreConfig {
        image: "warm".into(),
        memory: MemoryConfig::Mmap,
        prefetch: Switch::On,
        record: None,
        serial: SerialConfig::Null,
        overrides: DeviceOverrides {
            disks: [(DiskId::new("root").unwrap(), "other".into())].into(),
            nets: [("eth0".parse().unwrap(), "t1".parse().unwrap())].into(),
            vsock: Some("w".into()),
            overlay_dir: OverlayDir("o".into()),
        },
        report: Some(ReportTarget::Stdout),
        api_socket: Some("s".into()),
    };
    assert_eq!(RestoreConfig::try_from(args).unwrap(), expected);
    let Ok(Command::Restore(args)) = parse(&["restore", "warm"]) else { panic!() };
    assert_eq!(RestoreConfig::try_from(args).unwrap().serial, SerialConfig::Stdio);
}

#[test]
fn the_other_verbs() {
    let Ok(Command::Snapshot(args)) = parse(&["snapshot", "--api-socket", "s", "--out", "o", "--resume"])
    else {
        panic!()
    };
    assert_eq!((args.socket.api_socket, args.out, args.resume), ("s".into(), "o".into(), true));
    for verb in ["pause", "resume", "stop"] {
        assert!(parse(&[verb, "--api-socket", "s"]).is_ok(), "{verb}");
    }
    for line in [
        &["inspect", "i", "--json"][..],
        &["verify", "i"],
        &["doctor", "--json"],
        &["demo", "--json"],
        &["demo", "--runs", "3"],
    ] {
        assert!(parse(line).is_ok(), "{line:?}");
    }
    let cli = Cli::try_parse_from(["rekindle", "doctor", "--log-level", "debug"]).unwrap();
    assert_eq!(cli.log_level.as_deref(), Some("debug"), "the level may follow the verb");
}

#[test]
fn lines_that_make_no_sense_end_with_code_2_and_the_reason() {
    for (line, reason) in [
        (&[][..], "Usage:"),
        (&["run"], "unrecognized subcommand"),
        (&["bench"], "unrecognized subcommand"),
        (&["boot", "--cpus", "0"], "`0` CPUs cannot be had; give 1 to 32"),
        (&["boot", "--cpus", "33"], "`33` CPUs cannot be had; give 1 to 32"),
        (&["boot", "--memory", "1M"], "memory size `1M` is out of range; give 16M to 1023G"),
        (&["boot", "--memory", "256MB"], "write for example 256M"),
        (&["boot", "--initrd", "i"], "--kernel"),
        (&["boot", "--serial", "tty"], "give stdio, null or file:PATH"),
        (&["boot", "extra"], "unexpected argument"),
        (&["bake", "--out", "o"], "--ready"),
        (&["bake", "--ready", "port"], "--out"),
        (&["bake", "--ready", "serial:(", "--out", "o"], "is not a regular expression; mend it"),
        (&["bake", "--ready", "serial:(", "--out", "o"], "unclosed group"),
        (&["bake", "--ready", "port", "--out", "o", "--timeout", "60"], "write for example 60s"),
        (&["restore"], "<IMAGE>"),
        (&["restore", "i", "--memory-mode", "eager"], "give mmap or lazy"),
        (&["restore", "i", "--prefetch", "maybe"], "neither on nor off"),
        (&["restore", "i", "--record", "5s"], "unexpected argument"),
        (&["boot", "--pages", "s"], "unexpected argument"),
        (&["restore", "i", "--cpus", "2"], "unexpected argument"),
        (&["snapshot", "--api-socket", "s"], "--out"),
        (&["pause"], "--api-socket"),
        (&["inspect"], "<IMAGE>"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line:?}");
        let text = error.to_string();
        assert!(text.contains(reason), "{line:?}: `{reason}` is not in: {text}");
    }
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let lines: [&[&str]; 4] = [
        &["restore", "i", "--memory-mode", "mmap", "--pages", "s"],
        &["restore", "i", "--pages-timeout", "1s"],
        &["restore", "i", "--trace", "t"],
        &["restore", "i", "--pages", "s", "--trace", "t"],
    ];
    for line in lines {
        let Ok(Command::Restore(args)) = parse(line) else { panic!("{line:?}") };
        let error = RestoreConfig::try_from(args).unwrap_err();
        assert_eq!(classify(error.into()).exit, Exit::Usage, "{line:?}");
    }
}

#[test]
fn a_restore_records_for_as_long_as_it_is_told() {
    let record = |line: &[&str]| {
        let Ok(Command::Restore(args)) = parse(line) else { panic!("{line:?}") };
        RestoreConfig::try_from(args).unwrap().record.map(|time| time.get().as_millis())
    };
    assert_eq!(record(&["restore", "i"]), None);
    assert_eq!(record(&["restore", "--record", "i"]), Some(5000));
    assert_eq!(record(&["restore", "i", "--record=250ms"]), Some(250));
}

#[test]
fn empty_paths_are_refused() {
    for line in [
        &["restore", ""][..],
        &["bake", "--ready", "port", "--out", ""],
        &["boot", "--kernel", ""],
        &["boot", "--serial", "file:"],
        &["snapshot", "--api-socket", "", "--out", "o"],
        &["restore", "i", "--report", ""],
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
    }
}

#[test]
fn every_help_names_the_exit_codes() {
    let mut command = Cli::command();
    command.build();
    for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        let help = verb.render_long_help().to_string();
        assert!(help.contains(exit::EXIT_CODES), "{}", verb.get_name());
    }
    assert!(command.render_help().to_string().contains(exit::EXIT_CODES));
}

/// The way around the whole definition must not be a way around what it says.
#[test]
fn a_restore_is_parsed_the_same_alone() {
    let lines: [&[&str]; 8] = [
        &["i", "--disk", "root=x", "--disk", "data=y"],
        &["i", "--disk", "root=x,readonly"],
        &["i"],
        &["i", "--serial", "null", "--log-level", "debug", "--report", "-", "--api-socket", "s"],
        &["--memory-mode", "mmap", "--", "-i"],
        &["--help"],
        &[],
        &["i", "--pages", "x"],
    ];
    for line in lines {
        let line = [&["rekindle", "restore"], line].concat();
        let parsed = |cli: Result<Cli, clap::Error>| match cli {
            Ok(cli) => format!("{cli:?}"),
            Err(e) => e.to_string(),
        };
        let whole = parsed(Cli::try_parse_from(&line));
        assert_eq!(parsed(Cli::parse_line(line.iter().map(Into::into))), whole);
    }
}
