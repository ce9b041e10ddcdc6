use super::*;

#[test]
fn interfaces_that_are_taken() {
    let plain: NetConfig = "eth0=tap:tap0".parse().unwrap();
    assert_eq!((plain.id.as_str(), plain.tap.as_str(), plain.mac), ("eth0", "tap0", None));
    assert_eq!([plain.rx_limit, plain.tx_limit], [RateLimitConfig::default(); 2]);
    let full = "eth0=tap:veth=0,mac=02:00:0a:FF:00:01,rx-bw=10M,rx-ops=1000/500ms,tx-bw=1G/2m+3K,tx-ops=5+6";
    let full: NetConfig = full.parse().unwrap();
    assert_eq!(full.tap.as_str(), "veth=0");
    assert_eq!(full.mac.unwrap().to_string(), "02:00:0a:ff:00:01");
    assert_eq!(full.rx_limit.bandwidth, BucketConfig::new(10 << 20, 1000, 0));
    assert_eq!(full.rx_limit.operations, BucketConfig::new(1000, 500, 0));
    assert_eq!(full.tx_limit.bandwidth, BucketConfig::new(1 << 30, 120_000, 3 << 10));
    assert_eq!(full.tx_limit.operations, BucketConfig::new(5, 1000, 6));
    let other: NetOverride = "eth0=tap:tap7".parse().unwrap();
    assert_eq!((other.id, other.tap.as_str()), (plain.id, "tap7"));
}

#[test]
fn interfaces_that_are_refused() {
    let refuse = |text: &str| text.parse::<NetConfig>().unwrap_err();
    for text in ["", "eth0", "tap:tap0", "eth0=tap0", "eth0=vhost:x", ",eth0=tap:tap0"] {
        assert!(matches!(refuse(text), Error::NetSyntax { .. }), "{text}");
    }
    for text in ["=tap:tap0", "a/b=tap:tap0", "012345678901234567890=tap:tap0", "ä=tap:tap0"] {
        assert!(matches!(refuse(text), Error::NetId { .. }), "{text}");
    }
    for name in ["", "0123456789abcdef", "a b", "a/b", "a:b", "tap%d", ".", "..", "täp", "a\0"] {
        assert!(matches!(refuse(&format!("e=tap:{name}")), Error::TapName { .. }), "{name}");
    }
    for mac in [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "2:0:0:0:0:1",
        "02-00-00-00-00-01",
        "0g:00:00:00:00:01",
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "+2:00:00:00:00:01",
    ] {
        assert!(
            matches!(refuse(&format!("e=tap:t,mac={mac}")), Error::Mac { value } if value == mac),
            "{mac}"
        );
    }
    for option in ["", "mac", "mtu=1500", "rx-bw=1,rx-bw=1", "mac=02:00:00:00:00:01,mac=02:00:00:00:00:01"] {
        assert!(matches!(refuse(&format!("e=tap:t,{option}")), Error::NetOption { .. }), "{option}");
    }
    let more = "e=tap:t,mac=02:00:00:00:00:01".parse::<NetOverride>().unwrap_err().to_string();
    assert!(more.contains("a restored guest keeps its address"), "{more}");
}

#[test]
fn rates() {
    for text in ["1", "100M", "5/1ms", "5/1440m", "1+0", "1125899906842624", "1G/10s+1K"] {
        BucketConfig::parse(text, RateUnit::Bytes).unwrap();
    }
    for text in [
        "",
        "0",
        "-1",
        "+1",
        "1/",
        "1/0ms",
        "1/1441m",
        "1/1",
        "1/1h",
        "1+",
        "1+x",
        "1M+1T",
        "1048577G",
        "1.5M",
        "18446744073709551615G",
        "1/1s/1s",
        "1125899906842625",
    ] {
        let error = BucketConfig::parse(text, RateUnit::Bytes).unwrap_err();
        assert!(matches!(error, Error::Rate { value, .. } if value == text), "{text}");
    }
    assert!(BucketConfig::parse("1K", RateUnit::Operations).is_err());
    assert_eq!(BucketConfig::parse("7", RateUnit::Operations).ok(), BucketConfig::new(7, 1000, 0));
    assert_eq!(BucketConfig::new(1, 1, BucketConfig::MAX_TOKENS + 1), None);
}
