use super::*;

#[test]
fn sizes() {
    assert_eq!(size("256M"), Ok(256 << 20));
    assert_eq!(size("1048576"), Ok(1 << 20));
    assert_eq!(grain("64K"), Ok(64 << 10));
    for bad in ["", "M", "64", "1.5G", "-1G", "+1G", "1g", "99999999999G", "1 G"] {
        assert!(size(bad).is_err(), "{bad}");
    }
    for bad in ["0", "2K", "96K", "4M", "K"] {
        assert!(grain(bad).is_err(), "{bad}");
    }
}

#[test]
fn times() {
    assert_eq!(poll("50us"), Ok(Duration::from_micros(50)));
    assert_eq!(poll("0s"), Ok(Duration::ZERO));
    assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
    for bad in ["", "5", "-1s", "soon"] {
        assert!(time(bad).is_err(), "{bad}");
    }
    assert!(poll("11ms").is_err());
    assert!(interval("1ms").is_err());
}

#[test]
fn who_may_connect_and_where() {
    assert_eq!([mode("0660"), mode("600"), mode("0")], [Ok(0o660), Ok(0o600), Ok(0)]);
    for bad in ["", "0888", "1777", "rw", "+660", "99999999999999"] {
        assert!(mode(bad).is_err(), "{bad}");
    }
    // Nobody else's machine, unless an address is given.
    assert_eq!(listen("9100").unwrap().to_string(), "127.0.0.1:9100");
    assert_eq!(listen("0.0.0.0:9100").unwrap().to_string(), "0.0.0.0:9100");
    assert_eq!(listen("[::1]:9100").unwrap().to_string(), "[::1]:9100");
    for bad in ["", "65536", "localhost:1", ":9100", "1.2.3.4"] {
        assert!(listen(bad).is_err(), "{bad}");
    }
}
