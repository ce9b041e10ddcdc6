//! Command lines that make no sense: code 2, before anything is opened.

use rekindle_tests::{Case, Scratch, cases};

use crate::args;
use crate::table::{Row, check};

pub(crate) fn cases() -> Vec<Case> {
    cases!("input", &[], [bad_usage_is_code_2_and_says_what_is_possible])
}

fn bad_usage_is_code_2_and_says_what_is_possible() {
    let mut rows = Vec::new();
    let mut row = |what, args, says| rows.push(Row { what, args, code: 2, says });

    const MEMORY: &str = "give 16M to 1023G";
    for size in ["0", "15M", "16383K", "1024G", "18446744073709551615G", "99999999999999999999", "1"] {
        row("memory out of range", args!["boot", "--memory", size], &["--memory", "out of range", MEMORY]);
    }
    for size in ["16777217", "17M1", "16M ", "0x1000000", "+16M", "-16M", "16T", "M", "", "1.5G"] {
        let says: &[&str] = if size == "16777217" { &["not a multiple of 4 KiB"] } else { &["--memory"] };
        row("memory of odd size", args!["boot", format!("--memory={size}")], says);
    }
    for count in ["0", "33", "256", "4294967297", "-1", "two", "", "+1"] {
        let says = &["--cpus", "give 1 to 32"];
        row("impossible number of CPUs", args!["boot", format!("--cpus={count}")], says);
    }

    row("initrd without kernel", args!["boot", "--initrd", "x"], &["--kernel"]);
    row("empty kernel path", args!["boot", "--kernel", ""], &["a value is required for '--kernel"]);
    row(
        "empty initrd path",
        args!["boot", "--kernel", "k", "--initrd", ""],
        &["a value is required for '--initrd"],
    );
    row(
        "unknown console",
        args!["boot", "--serial", "tcp"],
        &["`tcp` is unknown", "stdio, null or file:PATH"],
    );
    row("empty console path", args!["boot", "--serial", "file:"], &["empty path"]);
    row("unknown option", args!["boot", "--hotplug"], &["--hotplug"]);
    row(
        "pages where memory is mapped",
        args!["restore", "i", "--memory-mode", "mmap", "--pages", "s"],
        &["--pages is of no use"],
    );
    for (disk, says) in [
        ("root", &["`root` is not ID=PATH", "root=disk.img"][..]),
        ("=x", &["disk id ``", "1 to 20 of"]),
        ("a/b=x", &["disk id `a/b`", "1 to 20 of"]),
        ("a23456789012345678901=x", &["disk id", "1 to 20 of"]),
        ("root=", &["the disk is an empty path"]),
        ("root=x,ro", &["option `ro` of a disk is unknown", "give readonly, overlay, bw= or iops="]),
        ("root=x,overlay,readonly", &["disk `root` is both readonly and overlay"]),
    ] {
        row("a disk that is none", args!["boot", "--disk", disk], says);
    }
    let twice = args!["boot", "--disk", "root=x", "--disk", "root=y,readonly"];
    row("two disks with one id", twice, &["two disks are called `root`"]);
    let again = args!["restore", "x", "--disk", "root=x", "--disk", "root=y"];
    row("one disk replaced twice", again, &["two disks are called `root`"]);
    let options = args!["restore", "x", "--disk", "root=x,readonly"];
    row("options that the image records", options, &["its image records", "give ID=PATH"]);
    for (net, says) in [
        ("eth0", &["`eth0` has no id or no TAP", "eth0=tap:tap0"][..]),
        ("eth0=tap0", &["has no id or no TAP"]),
        ("a/b=tap:tap0", &["id `a/b`", "1 to 20 of"]),
        ("eth0=tap:", &["`` cannot be the name of a TAP", "`ip link`"]),
        ("eth0=tap:0123456789abcdef", &["`0123456789abcdef` cannot be the name", "1 to 15 bytes"]),
        ("eth0=tap:tap%d", &["`tap%d` cannot be the name of a TAP"]),
        (
            "eth0=tap:t,mac=01:00:5e:00:00:01",
            &["is not the MAC address of one interface", "02:00:00:00:00:01"],
        ),
        ("eth0=tap:t,mac=2:0:0:0:0:1", &["`2:0:0:0:0:1` is not the MAC address"]),
        ("eth0=tap:t,mtu=9000", &["`mtu=9000` is no option", "rx-bw="]),
        ("eth0=tap:t,rx-bw=fast", &["rate `fast`", "100M/1s+1G"]),
        ("eth0=tap:t,tx-ops=1K", &["rate `1K`", "1000/1s+5000"]),
    ] {
        row("an interface that is none", args!["boot", "--net", net], says);
    }
    let twice = args!["boot", "--net", "eth0=tap:a", "--net", "eth0=tap:b"];
    row("two interfaces with one id", twice, &["two network interfaces are called `eth0`"]);
    let twice = args!["boot", "--net", "eth0=tap:a", "--net", "eth1=tap:a"];
    row("two interfaces with one TAP", twice, &["two network interfaces are to have TAP `a`", "its own"]);
    let options = args!["restore", "x", "--net", "eth0=tap:a,mac=02:00:00:00:00:01"];
    row("an address that the image records", options, &["a restored guest keeps its address", "ID=tap:NAME"]);
    for limit in ["bw=0", "bw=1T", "iops=1/0s", "iops=1+", "bw=1/25h"] {
        row("a rate that is none", args!["boot", "--disk", format!("root=x,{limit}")], &["is not an amount"]);
    }
    row("unknown log level", args!["--log-level", "loud,=", "boot"], &["log level", "off, error, warn"]);

    let bake = |ready: &str, more: &[&str]| {
        let mut args = args!["bake", "--out", "image", "--ready", ready];
        args.extend(more.iter().map(Into::into));
        args
    };
    row("unknown readiness", bake("soon", &[]), &["`soon` is unknown", "serial:REGEX, vsock:PORT or port"]);
    row("no regular expression", bake("serial:(", &[]), &["`(` is not a regular expression"]);
    row("an expression that matches nothing", bake("serial:x*", &[]), &["matches an empty console"]);
    row(
        "an expression beyond reason",
        bake(r"serial:(\w{1000}){1000}", &[]),
        &["is not a regular expression"],
    );
    row(
        "readiness by a device that is not there",
        bake("vsock:1024", &[]),
        &["`vsock:1024` needs a vsock device", "give --vsock cid=N,uds=PATH as well"],
    );
    row("readiness at no port", bake("vsock:4294967295", &[]), &["vsock port", "give 0 to 4294967294"]);
    for cid in ["0", "1", "2", "4294967295", "-1", ""] {
        let says = &["vsock CID `", "give 3 to 4294967294"];
        row("a CID that no guest has", args!["boot", "--vsock", format!("cid={cid},uds=x")], says);
    }
    for vsock in ["3", "cid=3", "uds=x", "cid=3,uds=x,port=1", "cid=3,cid=4,uds=x"] {
        let says = &["is not cid=N,uds=PATH", "cid=3,uds=vm.vsock"];
        row("a vsock that is none", args!["boot", "--vsock", vsock], says);
    }
    row("a vsock to an empty path", args!["boot", "--vsock", "cid=3,uds="], &["empty path"]);
    let again = args!["restore", "x", "--vsock", "cid=3,uds=x"];
    row("a CID that the image records", again, &["is not uds=PATH", "the CID is the image's"]);
    for limit in ["0s", "1441m", "99999999999999999999s"] {
        row(
            "time limit out of range",
            bake("port", &["--timeout", limit]),
            &["out of range", "1ms to 1440m"],
        );
    }
    for limit in ["60", "s", "1h", "1.5s", ""] {
        let says = &["--timeout", "followed by ms, s or m"];
        row("time limit that is none", bake("port", &[&format!("--timeout={limit}")]), says);
    }
    row("bake to nowhere", args!["bake", "--ready", "port"], &["--out"]);
    row("bake without readiness", args!["bake", "--out", "image"], &["--ready"]);

    row("restore of nothing", args!["restore"], &["IMAGE"]);
    row(
        "unknown memory mode",
        args!["restore", "x", "--memory-mode", "eager"],
        &["`eager`", "give mmap or lazy"],
    );
    row("report to an empty path", args!["restore", "x", "--report", ""], &["--report"]);
    row("unknown verb", args!["reboot"], &["reboot"]);
    row("snapshot of nobody", args!["snapshot", "--out", "image"], &["--api-socket"]);
    check(&Scratch::new(), rows);
}
