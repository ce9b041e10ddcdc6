//! A page server and those who connect to it: whatever they say, the others are served as before.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use page_server::testing::{encoded, hand_over, send, unspoken};
use rekindle_tests::patience::{SOON, scaled};
use rekindle_tests::{Case, Image, PageServer, Scratch, cases};
use snapshot_format::handoff::{Hello, Mapping, VERSION};
use snapshot_format::state::ManifestState;

use crate::standin::{Guest, byte, connect, is_delivered, raw};
use crate::{KVM, UFFD};

const MIB: usize = 1 << 20;
const LEN: usize = 8 * MIB;

pub(crate) fn cases() -> Vec<Case> {
    let standing_in = cases!(
        "pages",
        UFFD,
        [
            what_is_no_handshake_is_refused_and_costs_nothing,
            who_says_half_of_it_is_given_up,
            regions_that_are_not_there_do_no_harm,
            memory_that_goes_away_ends_its_session,
            ten_thousand_connections_leave_nothing_behind,
        ]
    );
    let ours = cases!("pages", KVM, [one_of_ours_is_told_why_it_is_refused]);
    standing_in.into_iter().chain(ours).collect()
}

/// A server of a raw file of 8 MiB.
fn server(here: &Scratch, more: &[&str]) -> PageServer {
    PageServer::serve_with(more, [raw(here, "memory", LEN, 7)])
}

/// Somebody who behaves is served.
#[track_caller]
fn serves(server: &PageServer) {
    let memory = Guest::new(LEN, 4096);
    let stream = connect(server);
    hand_over(&stream, &memory, None).expect("the server reads");
    is_delivered(&memory, LEN, |page| byte(7, page));
}

/// What the server says until it closes, which it does in time.
#[track_caller]
fn hung_up(mut stream: UnixStream) -> String {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        // It closed with bytes of ours unread.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server does not hang up: {error}"),
    }
    String::from_utf8(said).expect("a server speaks JSON")
}

/// As often as it is said, all at the beginning.
fn regions(of: Mapping, count: u64) -> Vec<Mapping> {
    (0..count).map(|n| Mapping { address: of.address + n * of.len, offset: n * of.len, ..of }).collect()
}

/// What is said, and the descriptors beside it.
type Row<'a> = (&'static str, Vec<u8>, Vec<BorrowedFd<'a>>);

/// Nothing of this is a handshake over the memory that is at `good`.
fn nonsense<'a>(good: Mapping, uffd: BorrowedFd<'a>, null: BorrowedFd<'a>) -> Vec<Row<'a>> {
    let is = |mappings: Vec<Mapping>| encoded(mappings, None);
    let small = Mapping { len: 4096, ..good };
    let huge = Mapping { len: 1 << 55, ..good };
    vec![
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![]),
        ("no array", b"{}".to_vec(), vec![uffd]),
        ("no regions", b"[]".to_vec(), vec![uffd]),
        ("a region of nothing", br#"[{}]"#.to_vec(), vec![uffd]),
        ("negative", br#"[{"base_host_virt_addr":-4096,"size":4096,"offset":0}]"#.to_vec(), vec![uffd]),
        ("not UTF-8", vec![b'[', b'"', 0xff, 0xfe, b'"', b']'], vec![uffd]),
        ("deep", vec![b'['; 4000], vec![uffd]),
        ("no descriptor", is(vec![good]), vec![]),
        ("a file", is(vec![good]), vec![null]),
        ("two descriptors", is(vec![good]), vec![uffd, uffd]),
        ("seven descriptors", is(vec![good]), vec![uffd, null, uffd, null, uffd, null, uffd]),
        ("overlapping in the process", is(vec![small, Mapping { offset: 4096, ..small }]), vec![uffd]),
        (
            "overlapping in the file",
            is(vec![small, Mapping { address: good.address + 4096, ..small }]),
            vec![uffd],
        ),
        ("twice the same", is(vec![small, small]), vec![uffd]),
        ("longer than the image", is(vec![Mapping { len: 2 * LEN as u64, ..good }]), vec![uffd]),
        ("shorter than the image", is(vec![small]), vec![uffd]),
        ("enormous", is(vec![huge]), vec![uffd]),
        (
            "around the end of the address space",
            is(vec![Mapping { address: u64::MAX - 4095, ..good }]),
            vec![uffd],
        ),
        ("around the end of the file", is(vec![Mapping { offset: u64::MAX - 4095, ..good }]), vec![uffd]),
        ("in the kernel", is(vec![Mapping { address: 0xffff_8000_0000_0000, ..good }]), vec![uffd]),
        ("unaligned", is(vec![Mapping { address: good.address + 1, ..good }]), vec![uffd]),
        ("an empty region", is(vec![Mapping { len: 0, ..good }]), vec![uffd]),
        ("pages of 3 bytes", is(vec![Mapping { page_bytes: 3, ..good }]), vec![uffd]),
        ("pages of 0 bytes", is(vec![Mapping { page_bytes: 0, ..good }]), vec![uffd]),
    ]
}

fn what_is_no_handshake_is_refused_and_costs_nothing() {
    let here = Scratch::new();
    let server = server(&here, &[]);
    serves(&server);
    server.metric_comes_to("sessions", |now| now == 0);
    let held = server.holdings();
    let memory = Guest::new(LEN, 4096);
    let null = std::fs::File::open("/dev/null").expect("there is a /dev/null");
    let rows = nonsense(memory.mapping(0), memory.uffd(), null.as_fd());
    let count = rows.len() as u64;
    for (what, bytes, descriptors) in rows {
        let stream = connect(&server);
        send(&stream, &bytes, &descriptors).expect("the server reads");
        // What nobody finishes is waited for; the next test is about that.
        if what == "deep" {
            stream.shutdown(std::net::Shutdown::Write).expect("a connection can be half closed");
        }
        assert_eq!(hung_up(stream), "", "{what}: it does not know that we would understand");
    }
    server.metric_comes_to("refused_total", |now| now == count);
    assert_eq!(server.metric("sessions_total"), 1);
    server.holds_no_more_than(held);
    // What was refused was left alone.
    assert!((0..LEN).step_by(4096).all(|at| !memory.is_there(at)));
    serves(&server);
    server.stop();
}

/// Everybody at once, each for as long as it is given.
fn who_says_half_of_it_is_given_up() {
    let here = Scratch::new();
    let server = server(&here, &[]);
    let held = server.holdings();
    let memory = Guest::new(LEN, 4096);
    let good = encoded(vec![memory.mapping(0)], None);
    let started = Instant::now();
    let streams: Vec<UnixStream> = (0..good.len().min(60))
        .map(|said| {
            let stream = connect(&server);
            let with: &[BorrowedFd<'_>] = if said % 2 == 1 { &[memory.uffd()] } else { &[] };
            if said > 0 {
                send(&stream, &good[..said], with).expect("the server reads");
            }
            stream
        })
        .collect();
    // Meanwhile others are served.
    serves(&server);
    let count = streams.len() as u64;
    streams.into_iter().for_each(|stream| drop(hung_up(stream)));
    assert!(started.elapsed() < scaled(SOON), "given up after {:?}", started.elapsed());
    server.metric_comes_to("refused_total", |now| now == count);
    server.metric_comes_to("sessions", |now| now == 0);
    server.holds_no_more_than(held);
    server.stop();
}

/// Addresses that were not registered, or that are not even mapped, and a userfaultfd that tells of nothing.
fn regions_that_are_not_there_do_no_harm() {
    let here = Scratch::new();
    let server = server(&here, &[]);
    let held = server.holdings();
    let memory = Guest::new(LEN, 4096);
    let good = memory.mapping(0);
    let dumb = unspoken().expect("there is a userfaultfd");
    let stream = connect(&server);
    send(&stream, &encoded(vec![good], None), &[dumb.as_fd()]).expect("the server reads");
    assert_eq!(hung_up(stream), "");
    drop(dumb);
    for address in [4096, 1 << 45, good.address + LEN as u64] {
        let stream = connect(&server);
        let mapping = Mapping { address, ..good };
        send(&stream, &encoded(vec![mapping], None), &[memory.uffd()]).expect("the server reads");
        drop(stream);
    }
    // Tiny regions by the dozen, all over the memory.
    let tiny = Mapping { len: (LEN / 16) as u64, ..good };
    let stream = connect(&server);
    send(&stream, &encoded(regions(tiny, 8), None), &[memory.uffd()]).expect("the server reads");
    assert_eq!(hung_up(stream), "", "half of an image is not the whole of another");
    server.metric_comes_to("sessions", |now| now == 0);
    server.holds_no_more_than(held);
    serves(&server);
    server.stop();
}

/// It is unmapped while it is served, or its process has closed everything without a word.
fn memory_that_goes_away_ends_its_session() {
    let here = Scratch::new();
    let server = server(&here, &[]);
    let held = server.holdings();
    for round in 0..20 {
        let memory = Guest::new(LEN, 4096);
        let stream = connect(&server);
        hand_over(&stream, &memory, None).expect("the server reads");
        if round % 2 == 0 {
            assert_eq!(memory.byte(round * 8192 + 4096), byte(7, round * 2 + 1));
        }
        if round % 3 == 0 {
            drop(memory);
            drop(stream);
        } else {
            drop(stream);
            drop(memory);
        }
    }
    server.metric_comes_to("sessions", |now| now == 0);
    server.holds_no_more_than(held);
    serves(&server);
    server.stop();
}

/// Some of them stay for as long as they may.
fn ten_thousand_connections_leave_nothing_behind() {
    let here = Scratch::new();
    let server = server(&here, &["--max-sessions", "64"]);
    let held = server.holdings();
    let memory = Guest::new(LEN, 4096);
    let good = encoded(vec![memory.mapping(0)], None);
    let started = Instant::now();
    let mut kept = Vec::new();
    for number in 0..10_000 {
        let stream = connect(&server);
        match number % 100 {
            0 => kept.push(stream),
            // It may have been turned away already.
            1 => drop(send(&stream, &good[..20], &[memory.uffd()])),
            2 => drop(send(&stream, b"nonsense", &[])),
            _ => {}
        }
    }
    assert!(started.elapsed() < scaled(SOON), "10,000 connections took {:?}", started.elapsed());
    let most = server.holdings();
    // Those that are about to end do not count any more, and are listed for an instant longer.
    assert!(most.threads <= held.threads + 2 * 64, "{most:?}");
    drop(kept);
    server.holds_no_more_than(held);
    // Some still wait to be accepted.
    server.metric_comes_to("refused_total", |now| now >= 9_900);
    serves(&server);
    server.stop();
}

fn one_of_ours_is_told_why_it_is_refused() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let manifest: ManifestState = rekindle_tests::state::State::of(&image).value("manifest");
    let image_id = manifest.image_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let server = PageServer::serve([image.path()]);
    let len = 32 * MIB;
    let memory = Guest::new(len, 4096);
    let hello = Hello {
        version: VERSION,
        image_id,
        prefetch: true,
        record: false,
        write_protect: None,
        acknowledge: false,
        zeros: false,
    };
    let other = Hello { image_id: "0".repeat(32), ..hello.clone() };
    let refusals = [
        (memory.mapping(0), other, "no image `00000000000000000000000000000000` is served here"),
        (
            memory.mapping(len as u64),
            hello.clone(),
            "the VMM wants memory up to 0x4000000 of an image of 0x2000000",
        ),
    ];
    for (mapping, hello, why) in refusals {
        let stream = connect(&server);
        send(&stream, &encoded(vec![mapping], Some(hello)), &[memory.uffd()]).expect("the server reads");
        let said = hung_up(stream);
        assert!(said.starts_with(r#"{"refused":"#) && said.ends_with("}\n") && said.contains(why), "{said}");
    }
    // The right one is served as any, by its name.
    let stream = connect(&server);
    hand_over(&stream, &memory, Some(hello)).expect("the server reads");
    let file = std::fs::read(image.memory()).expect("the image has a memory");
    for at in (0..len).step_by(4096) {
        assert!(memory.page(at) == file[at..at + 4096], "the page at {at:#x}");
    }
    server.stop();
}
