//! Tables of what is taken and what is refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

#[test]
fn memory_sizes_that_are_taken() {
    for (text, bytes, shown) in [
        ("16M", 16 << 20, "16M"),
        ("16384k", 16 << 20, "16M"),
        ("256M", 256 << 20, "256M"),
        ("3G", 3 << 30, "3G"),
        ("1023g", 1023 << 30, "1023G"),
        ("16388K", 16388 << 10, "16388K"),
        ("16777216", 16 << 20, "16M"),
    ] {
        let size: MemorySize = text.parse().unwrap();
        assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown), "{text}");
        assert_eq!(size.to_string().parse::<MemorySize>().unwrap(), size);
    }
    assert_eq!(MemorySize::default().to_string(), "256M");
}

#[test]
fn memory_sizes_that_are_refused() {
    for text in ["", "M", "x", "1.5G", "-1M", "+16M", " 16M", "16MB", "16MiB", "0x1000000", "16T", "é"] {
        assert!(
            matches!(text.parse::<MemorySize>(), Err(Error::MemorySyntax { value }) if value == text),
            "{text}"
        );
    }
    for text in
        ["0", "15M", "16777215", "1024G", "1098437885953", "99999999999999999999", "18446744073709551615G"]
    {
        assert!(
            matches!(text.parse::<MemorySize>(), Err(Error::MemoryRange { value }) if value == text),
            "{text}"
        );
    }
    for text in ["16777217", "16385K"] {
        assert!(matches!(text.parse::<MemorySize>(), Err(Error::MemoryAlignment { .. })), "{text}");
    }
    assert!(matches!(MemorySize::from_bytes(4096), Err(Error::MemoryRange { .. })));
}

#[test]
fn cpu_counts() {
    for n in 1..=32u8 {
        assert_eq!(n.to_string().parse::<CpuCount>().unwrap().get(), n);
    }
    for text in ["", "0", "33", "256", "257", "-1", "+1", "1.0", "two", "99999999999999999999"] {
        let error = text.parse::<CpuCount>().unwrap_err().to_string();
        assert_eq!(error, format!("`{text}` CPUs cannot be had; give 1 to 32"));
    }
    assert!(CpuCount::new(u32::MAX).is_err());
}

#[test]
fn consoles() {
    assert_eq!(SerialConfig::parse(OsStr::new("stdio")).unwrap(), SerialConfig::Stdio);
    assert_eq!(SerialConfig::parse(OsStr::new("null")).unwrap(), SerialConfig::Null);
    let odd = OsStr::from_bytes(b"file:/tmp/\xff:x");
    let path = PathBuf::from(OsStr::from_bytes(b"/tmp/\xff:x"));
    assert_eq!(
        SerialConfig::parse(odd).unwrap(),
        SerialConfig::File(SerialFile { path, ..SerialFile::default() })
    );
    assert!(matches!(SerialConfig::parse(OsStr::new("file:")), Err(Error::EmptyPath { .. })));
    let parse = |text: &str| SerialConfig::parse(OsStr::new(text));
    let limited = |path: &str, size, rate| SerialConfig::File(SerialFile { path: path.into(), size, rate });
    assert_eq!(parse("file:log,size=64M").unwrap(), limited("log", Some(64 << 20), None));
    assert_eq!(parse("file:a,b,rate=1M,size=1G").unwrap(), limited("a,b", Some(1 << 30), Some(1 << 20)));
    assert_eq!(parse("file:log,size=1K,else").unwrap(), limited("log,size=1K,else", None, None));
    for text in ["file:log,size=", "file:log,rate=-1", "file:log,size=1T", "file:log,size=99"] {
        assert!(matches!(parse(text), Err(Error::SerialLimit { .. })), "{text}");
    }
    assert!(matches!(parse("file:log,size=1M,size=2M"), Err(Error::SerialTwice)));
    assert!(matches!(parse("file:,size=1M"), Err(Error::EmptyPath { .. })));
    for text in ["", "tty", "Stdio", "/tmp/x", "pty"] {
        assert!(matches!(SerialConfig::parse(OsStr::new(text)), Err(Error::Serial { .. })), "{text}");
    }
}

#[test]
fn readiness_signals() {
    assert!(matches!("port".parse(), Ok(ReadyConfig::Port)));
    let Ok(ReadyConfig::Serial(pattern)) = "serial:^login: $".parse() else { panic!() };
    assert!(pattern.regex().is_match(b"Debian\nlogin: \n"));
    assert!(!pattern.regex().is_match(b"no login: here"));
    let Ok(ReadyConfig::Serial(pattern)) = r"serial:ready:\d+ \xff".parse() else { panic!() };
    assert!(pattern.regex().is_match("ready:12 \u{ff}".as_bytes()));

    for text in ["", "ports", "serial", "5", "Port"] {
        assert!(matches!(text.parse::<ReadyConfig>(), Err(Error::Ready { .. })), "{text}");
    }
    for text in ["serial:", "serial:.*", "serial:$", "serial:x?"] {
        assert!(matches!(text.parse::<ReadyConfig>(), Err(Error::PatternMatchesNothing { .. })), "{text}");
    }
    for text in ["serial:(", "serial:[a", "serial:x{1000}{1000}{1000}", "serial:(?=x)"] {
        assert!(matches!(text.parse::<ReadyConfig>(), Err(Error::PatternSyntax { .. })), "{text}");
    }
    let ready = "vsock:4294967294".parse::<ReadyConfig>().unwrap();
    assert!(matches!(ready, ReadyConfig::Vsock(port) if port.get() == 4_294_967_294));
    for text in ["vsock:", "vsock:-1", "vsock:+1", "vsock:4294967295", "vsock:99999999999"] {
        assert!(matches!(text.parse::<ReadyConfig>(), Err(Error::VsockPort { .. })), "{text}");
    }
}

#[test]
fn time_limits() {
    for (text, ms, shown) in [
        ("1ms", 1, "1ms"),
        ("60s", 60_000, "60s"),
        ("1500ms", 1500, "1500ms"),
        ("2m", 120_000, "120s"),
        ("1440m", 86_400_000, "86400s"),
    ] {
        let timeout: Timeout = text.parse().unwrap();
        assert_eq!(timeout.get(), Duration::from_millis(ms), "{text}");
        assert_eq!(timeout.to_string(), shown);
        assert_eq!(shown.parse::<Timeout>().unwrap(), timeout);
    }
    for text in ["", "60", "s", "1h", "1.5s", "-1s", " 1s", "1 s", "1S"] {
        assert!(matches!(text.parse::<Timeout>(), Err(Error::TimeoutSyntax { .. })), "{text}");
    }
    for text in ["0s", "0ms", "1441m", "99999999999999999999s", "18446744073709551615m"] {
        assert!(matches!(text.parse::<Timeout>(), Err(Error::TimeoutRange { .. })), "{text}");
    }
}

#[test]
fn memory_modes_and_reports() {
    assert_eq!("mmap".parse::<MemoryMode>().unwrap(), MemoryMode::Mmap);
    assert_eq!("lazy".parse::<MemoryMode>().unwrap(), MemoryMode::Lazy);
    assert!(matches!("copy".parse::<MemoryMode>(), Err(Error::MemoryMode { .. })));
    assert_eq!(ReportTarget::parse(OsStr::new("-")).unwrap(), ReportTarget::Stdout);
    assert_eq!(ReportTarget::parse(OsStr::new("./-")).unwrap(), ReportTarget::File("./-".into()));
    assert!(matches!(ReportTarget::parse(OsStr::new("")), Err(Error::EmptyPath { .. })));
}

#[test]
fn kernels() {
    assert_eq!(KernelConfig::from_paths(None, None).unwrap(), KernelConfig::Spark);
    let file = KernelConfig::File { kernel: "k".into(), initrd: Some("i".into()) };
    assert_eq!(KernelConfig::from_paths(Some("k".into()), Some("i".into())).unwrap(), file);
    let lonely = KernelConfig::from_paths(None, Some("i".into())).unwrap_err();
    assert!(matches!(lonely, Error::InitrdWithoutKernel { value } if value == "i"));
    assert!(matches!(KernelConfig::from_paths(Some("".into()), None), Err(Error::EmptyPath { .. })));
    assert!(matches!(
        KernelConfig::from_paths(Some("k".into()), Some("".into())),
        Err(Error::EmptyPath { .. })
    ));
}

#[test]
fn socket_devices() {
    let parse = |text: &str| VsockConfig::parse(OsStr::new(text));
    let path = PathBuf::from("a b=c");
    let expected = VsockConfig { cid: GuestCid::new(3).unwrap(), path: path.clone(), ready: None };
    assert_eq!(parse("cid=3,uds=a b=c").unwrap(), expected);
    assert_eq!(parse("uds=a b=c,cid=3").unwrap(), expected);
    assert_eq!(parse("cid=4294967294,uds=x").unwrap().cid.get(), 4_294_967_294);
    for text in
        ["", "cid=3", "uds=x", "cid=3,uds=x,", "cid=3,uds=x,cid=3", "cid=3,uds=x,y", "cid=3;uds=x", "x,cid=3"]
    {
        assert!(matches!(parse(text), Err(Error::VsockSyntax { .. })), "{text}");
    }
    for cid in ["", "0", "1", "2", "4294967295", "4294967296", "+3", "-3", "x", "3 "] {
        assert!(matches!(parse(&format!("cid={cid},uds=x")), Err(Error::VsockCid { .. })), "{cid}");
    }
    assert!(matches!(parse("cid=3,uds="), Err(Error::EmptyPath { .. })));

    let parse = |text: &str| VsockPath::parse(OsStr::new(text));
    assert_eq!(parse("uds=a b=c").unwrap(), VsockPath(path));
    for text in ["", "x", "cid=3,uds=x", "uds=x,cid=3"] {
        assert!(matches!(parse(text), Err(Error::VsockRecorded { .. })), "{text}");
    }
    assert!(matches!(parse("uds="), Err(Error::EmptyPath { .. })));
}

#[test]
fn who_delivers_memory() {
    let lazy = |server: Option<&str>| MemoryConfig::Lazy {
        server: server.map(Into::into),
        timeout: PagesTimeout::default(),
        trace: None,
    };
    let config = |mode, server: Option<&str>| MemoryConfig::new(mode, server.map(Into::into), None, None);
    assert_eq!(config(None, None).unwrap(), MemoryConfig::AsKept);
    assert_eq!(MemoryConfig::AsKept.of_image(false), MemoryConfig::Mmap);
    assert_eq!(MemoryConfig::AsKept.of_image(true), lazy(None), "a packed image cannot be mapped");
    assert_eq!(
        MemoryConfig::Mmap.of_image(true),
        MemoryConfig::Mmap,
        "and what was asked for is not changed"
    );
    assert_eq!(config(Some(MemoryMode::Lazy), None).unwrap(), lazy(None));
    assert_eq!(config(None, Some("s")).unwrap(), lazy(Some("s")), "--pages implies it");
    assert_eq!(config(Some(MemoryMode::Lazy), Some("s")).unwrap(), lazy(Some("s")));
    assert!(matches!(config(None, Some("")), Err(Error::EmptyPath { .. })));
    let option = |result| match result {
        Err(Error::NobodyDelivers { option }) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(option(config(Some(MemoryMode::Mmap), Some("s"))), "--pages");
    assert_eq!(option(MemoryConfig::new(None, None, Some(PagesTimeout::default()), None)), "--pages-timeout");
    assert_eq!(option(MemoryConfig::new(None, None, None, Some("t".into()))), "--trace");
    let elsewhere = MemoryConfig::new(None, Some("s".into()), None, Some("t".into()));
    assert!(matches!(elsewhere, Err(Error::TraceElsewhere)));
}

#[test]
fn times_of_pages() {
    assert_eq!(PagesTimeout::default().to_string(), "10s");
    assert_eq!("100ms".parse::<PagesTimeout>().unwrap().get(), Duration::from_millis(100));
    for text in ["99ms", "11m"] {
        assert!(matches!(text.parse::<PagesTimeout>(), Err(Error::PagesTimeoutRange { .. })), "{text}");
    }
    assert_eq!("5s".parse::<RecordTime>().unwrap().get(), Duration::from_secs(5));
    for text in ["11m", "0s", "99999999999999999999m"] {
        assert!(matches!(text.parse::<RecordTime>(), Err(Error::RecordRange { .. })), "{text}");
    }
    assert!("on".parse::<Switch>().unwrap().is_on() && !"off".parse::<Switch>().unwrap().is_on());
    assert!(matches!("no".parse::<Switch>(), Err(Error::Switch { .. })));
}
