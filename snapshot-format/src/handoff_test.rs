use super::*;

const MIB: u64 = 1 << 20;

fn two() -> Vec<Mapping> {
    vec![
        Mapping { address: 0x7f00_0000_0000, len: 3 * MIB, offset: 0, page_bytes: 4096 },
        Mapping { address: 0x7e00_0000_0000, len: MIB, offset: 3 * MIB, page_bytes: 4096 },
    ]
}

fn hello() -> Hello {
    let image_id = "00ff".repeat(8);
    Hello {
        version: VERSION,
        image_id,
        prefetch: false,
        record: true,
        write_protect: None,
        acknowledge: true,
        zeros: true,
    }
}

#[test]
fn an_id_is_32_digits_in_lower_case() {
    let mut id = [0; 16];
    (id[0], id[1], id[15]) = (0xab, 1, 0xff);
    assert_eq!(spell_id(&id), "ab0100000000000000000000000000ff");
}

#[test]
fn what_is_written_is_read() {
    for hello in [None, Some(hello())] {
        let handshake = Handshake { mappings: two(), hello };
        assert_eq!(Handshake::parse(&handshake.encode().unwrap()).unwrap(), handshake);
    }
}

#[test]
fn pages_of_a_recorded_guest_are_protected_unless_that_cannot_be() {
    for (record, write_protect, protects) in
        [(true, None, true), (false, None, false), (true, Some(false), false), (false, Some(true), true)]
    {
        let hello = Hello { record, write_protect, ..hello() };
        assert_eq!(hello.protects(), protects);
        let json = serde_json::to_value(&hello).unwrap();
        // A server that does not know the member is not told of it for nothing.
        assert_eq!(json.get("write_protect").is_some(), write_protect.is_some());
        assert_eq!(serde_json::from_value::<Hello>(json).unwrap(), hello);
    }
}

/// By Firecracker's names, and in its order of nothing in particular.
#[test]
fn firecrackers_own_message_is_read() {
    let message = br#"[{"base_host_virt_addr":139637976727552,"size":134217728,"offset":0,"page_size":4096,
        "page_size_kib":4096},{"size":2097152,"offset":134217728,"page_size_kib":2097152,
        "base_host_virt_addr":139640004673536, "a_later_field": true}]"#;
    let read = Handshake::parse(message).unwrap();
    assert_eq!(read.hello, None);
    assert_eq!(read.mappings.iter().map(|m| m.page_bytes).collect::<Vec<_>>(), [4096, 2 * MIB]);
    assert_eq!(read.mappings[0].address, 139_637_976_727_552);
}

/// Handlers that know nothing of ours find every field they want, in bytes.
#[test]
fn both_page_sizes_are_sent_in_bytes() {
    let bytes = Handshake { mappings: two(), hello: Some(hello()) }.encode().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    for region in json.as_array().unwrap() {
        assert_eq!(
            (region["page_size"].as_u64(), region["page_size_kib"].as_u64()),
            (Some(4096), Some(4096))
        );
    }
    assert!(json[1].get("rekindle").is_none());
}

#[test]
fn eight_regions_with_the_largest_numbers_fit_or_are_refused() {
    let mapping =
        |i: u64| Mapping { address: (1 << 47) + i * MIB, len: MIB, offset: i * MIB, page_bytes: 4096 };
    let handshake = Handshake { mappings: (0..64).map(mapping).collect(), hello: None };
    assert!(matches!(handshake.encode(), Err(Error::TooLong { .. })));
    let handshake = Handshake { mappings: (0..4).map(mapping).collect(), hello: Some(hello()) };
    assert!(handshake.encode().unwrap().len() <= MAX_HANDSHAKE_BYTES);
}

fn refused(mapping: Mapping) -> Error {
    let spelled = Handshake { mappings: vec![mapping], hello: None }.encode().unwrap();
    Handshake::parse(&spelled).unwrap_err()
}

#[test]
fn impossible_regions_are_refused() {
    let good = two()[0];
    for bad in [
        Mapping { len: 0, ..good },
        Mapping { len: 4095, ..good },
        Mapping { address: good.address + 1, ..good },
        Mapping { offset: 1, ..good },
        Mapping { address: u64::MAX - 4095, ..good },
        Mapping { len: !4095, ..good },
        Mapping { offset: MAX_MEMORY_BYTES, ..good },
        Mapping { page_bytes: 2 * MIB, ..good },
    ] {
        assert!(matches!(refused(bad), Error::Bounds { .. }), "{bad:x?}");
    }
    for page_bytes in [0, 1, 4095, 8192, 1 << 30] {
        assert!(matches!(refused(Mapping { page_bytes, ..good }), Error::PageSize { .. }), "{page_bytes}");
    }
}

#[test]
fn overlaps_are_refused() {
    let [first, second] = two()[..] else { panic!("two") };
    for bad in [
        Mapping { address: first.address + 4096, ..second },
        Mapping { address: first.address - MIB + 4096, ..second },
        Mapping { offset: 3 * MIB - 4096, ..second },
        first,
    ] {
        let spelled = Handshake { mappings: vec![first, bad], hello: None }.encode().unwrap();
        assert!(matches!(Handshake::parse(&spelled), Err(Error::Overlap { .. })), "{bad:x?}");
    }
}

#[test]
fn what_is_no_handshake_is_refused() {
    for bad in ["", "{}", "[1]", "[{}]", "null", "[", "\u{0}", r#"[{"base_host_virt_addr":-1}]"#] {
        assert!(matches!(Handshake::parse(bad.as_bytes()), Err(Error::Json(_))), "{bad}");
    }
    assert!(matches!(Handshake::parse(b"[]"), Err(Error::Count { count: 0 })));
    let later = Hello { version: VERSION + 1, ..hello() };
    let later = Handshake { mappings: two(), hello: Some(later) }.encode().unwrap();
    assert!(matches!(Handshake::parse(&later), Err(Error::Version { version: 2 })));
}

#[test]
fn a_server_is_understood() {
    for said in [
        FromServer::Serving,
        FromServer::Complete,
        FromServer::Zeros(vec![[0, 2 * MIB], [u64::MAX, u64::MAX]]),
        FromServer::Refused { cause: "no".into() },
        FromServer::Lost { offset: 4096, cause: "gone".into() },
    ] {
        let line = said.encode();
        assert_eq!(FromServer::parse(line.strip_suffix(b"\n").unwrap()).unwrap(), said);
    }
    assert_eq!(FromServer::Complete.encode(), b"\"complete\"\n");
    let long = FromServer::Refused { cause: "\u{1}".repeat(1 << 16) }.encode();
    assert!(long.len() <= MAX_LINE_BYTES);
    assert!(matches!(FromServer::parse(b"{\"other\":1}"), Err(Error::Line(_))));
}

/// However many stretches there are, and wherever: no line is too long, and they are no more than are allowed.
#[test]
fn zeros_are_named_in_lines_that_are_not_too_long() {
    let many: Vec<[u64; 2]> = (0..1000).map(|i| [u64::MAX - i, u64::MAX - i]).collect();
    let mut named = Vec::new();
    for said in FromServer::zeros(&many) {
        let line = said.encode();
        assert!(line.len() <= MAX_LINE_BYTES, "{} bytes", line.len());
        let FromServer::Zeros(some) = FromServer::parse(line.trim_ascii_end()).unwrap() else { panic!() };
        named.extend(some);
    }
    assert_eq!(named, many[..MAX_ZEROS]);
    assert_eq!(FromServer::zeros(&[]).count(), 0);
    assert!(FromServer::Zeros(many).encode().len() <= MAX_LINE_BYTES);
    assert_eq!(FromServer::Zeros(vec![[0, 2]]).encode(), b"{\"zeros\":[[0,2]]}\n");
    for bad in [r#"{"zeros":[[1]]}"#, r#"{"zeros":[[-1,2]]}"#, r#"{"zeros":7}"#, r#""zeros""#] {
        assert!(matches!(FromServer::parse(bad.as_bytes()), Err(Error::Line(_))), "{bad}");
    }
}

/// Servers that do not know the member are not told of it for nothing, and VMMs that do not are understood.
#[test]
fn who_does_not_ask_for_zeros_says_nothing_of_them() {
    let json = serde_json::to_value(Hello { zeros: false, ..hello() }).unwrap();
    assert!(json.get("zeros").is_none());
    assert!(!serde_json::from_value::<Hello>(json).unwrap().zeros);
}
