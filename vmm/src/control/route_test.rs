//! Requests on the wire, good and bad.

use super::route::{Spelled, parse, parse_answer, spell, spell_answer};
use super::*;

fn spelled(method: &str, path: &str, body: &str) -> Spelled {
    Spelled { method: method.into(), path: path.into(), body: body.into() }
}

fn snapshot(out: &str, resume: bool) -> Request {
    Request::Snapshot(SnapshotRequest { out: out.into(), resume, reclaim_ms: 0 })
}

#[test]
fn requests_that_are_understood() {
    for (method, path, body, request) in [
        ("GET", "/", "", Request::Describe),
        ("PATCH", "/vm", r#"{"state":"Paused"}"#, Request::Pause),
        ("PATCH", "/vm", r#" { "state" : "Resumed" } "#, Request::Resume),
        ("PUT", "/snapshot", r#"{"out":"a/b"}"#, snapshot("a/b", false)),
        ("PUT", "/snapshot", r#"{"resume":true,"out":"/a"}"#, snapshot("/a", true)),
        ("GET", "/balloon", "", Request::DescribeBalloon),
        ("PATCH", "/balloon", r#"{"amount_mib":5}"#, Request::SetBalloon(Balloon { amount_mib: 5 })),
        ("GET", "/balloon/statistics", "", Request::BalloonStats),
        ("PUT", "/stop", "", Request::Stop),
        ("PUT", "/stop", "{}", Request::Stop),
        ("PUT", "/actions", r#"{"action_type":"SendCtrlAltDel"}"#, Request::SendCtrlAltDel),
    ] {
        assert_eq!(parse(&spelled(method, path, body)), Ok(request), "{method} {path} {body}");
    }
}

#[test]
fn requests_that_are_refused() {
    const JSON: &str = "An error occurred when deserializing the json body of a request: ";
    const PATH: &str = "Invalid request method and/or path: ";
    for (method, path, body, message) in [
        ("GET", "/", "{}", "GET request cannot have a body."),
        ("GET", "/balloon", "{}", "GET request cannot have a body."),
        ("PATCH", "/balloon", r#"{"amount_mib":-1}"#, JSON),
        ("PATCH", "/balloon", r#"{"amount_mib":1,"deflate_on_oom":true}"#, JSON),
        ("PUT", "/snapshot", r#"{"out":"a","reclaim_ms":60001}"#, "`reclaim_ms` is more than 60000"),
        ("GET", "/x", "", "Invalid request method and/or path: GET /x."),
        ("PUT", "/", "", PATH),
        ("get", "/", "", PATH),
        ("GET", "/?x", "", PATH),
        ("PUT", "/vm", r#"{"state":"Paused"}"#, PATH),
        ("PATCH", "/vm", "", JSON),
        ("PATCH", "/vm", "{", JSON),
        ("PATCH", "/vm", "null", JSON),
        ("PATCH", "/vm", r#"{"state":"paused"}"#, JSON),
        ("PATCH", "/vm", r#"{"state":"Paused","x":1}"#, JSON),
        ("PATCH", "/vm", r#"{"state":"Paused"}{}"#, JSON),
        ("PUT", "/snapshot", "{}", JSON),
        ("PUT", "/snapshot", r#"{"out":7}"#, JSON),
        ("PUT", "/snapshot", r#"{"out":"a","resume":"yes"}"#, JSON),
        ("PUT", "/snapshot", r#"{"out":"a","path":"b"}"#, JSON),
        ("PUT", "/snapshot", r#"{"out":""}"#, "`out` is not the path of an image"),
        ("PUT", "/snapshot", r#"{"out":"a\u0000b"}"#, "`out` is not the path of an image"),
        ("PUT", "/stop", r#"{"now":true}"#, JSON),
        ("PUT", "/actions", r#"{"action_type":"FlushMetrics"}"#, JSON),
        (
            "PUT",
            "/actions",
            r#"{"action_type":"InstanceStart"}"#,
            "The requested operation is not supported after starting the microVM.",
        ),
    ] {
        let fault = parse(&spelled(method, path, body)).unwrap_err();
        assert!(fault.message.starts_with(message), "{method} {path} {body}: {}", fault.message);
        assert_eq!(fault.exit_code, 1);
    }
    let deep = "[".repeat(50_000);
    assert!(parse(&spelled("PUT", "/snapshot", &deep)).is_err());
    assert!(parse(&Spelled { method: "PATCH".into(), path: "/vm".into(), body: vec![0xff; 9] }).is_err());
}

#[test]
fn what_the_client_spells_the_server_understands() {
    let requests = [
        Request::Describe,
        Request::Pause,
        Request::Resume,
        snapshot("/a \" \\ b\n\u{1f525}", true),
        Request::Stop,
        Request::SendCtrlAltDel,
    ];
    for request in requests {
        assert_eq!(parse(&spell(&request).unwrap()), Ok(request));
    }
}

#[test]
fn a_path_that_json_cannot_carry_is_refused_by_the_client() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let out = OsStr::from_bytes(b"/\xff").into();
    let refused = spell(&Request::Snapshot(SnapshotRequest { out, resume: false, reclaim_ms: 0 }));
    assert!(matches!(refused, Err(Error::PathNotUtf8 { .. })));
}

#[test]
fn answers_come_back_as_they_were() {
    let description = Description {
        id: "vm".into(),
        state: VmState::Paused,
        vmm_version: "0.1.0".into(),
        app_name: "Rekindle".into(),
    };
    let body = spell_answer(&Answer::Description(description.clone())).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&body),
        r#"{"id":"vm","state":"Paused","vmm_version":"0.1.0","app_name":"Rekindle"}"#
    );
    assert_eq!(parse_answer(&Request::Describe, &body), Some(Answer::Description(description)));

    let summary = Answer::Snapshot(SnapshotSummary { paused_us: 7, memory_bytes: 1 << 40 });
    let body = spell_answer(&summary).unwrap();
    assert_eq!(parse_answer(&snapshot("a", false), &body), Some(summary));
    assert_eq!(parse_answer(&Request::Describe, &body), None);
    assert_eq!(parse_answer(&Request::Stop, &body), None);
    assert_eq!(spell_answer(&Answer::Done), None);

    let size = Answer::Balloon(Balloon { amount_mib: 9 });
    let body = spell_answer(&size).unwrap();
    assert_eq!(String::from_utf8_lossy(&body), r#"{"amount_mib":9}"#);
    assert_eq!(parse_answer(&Request::DescribeBalloon, &body), Some(size));
    let stats = BalloonStats { target_pages: 256, target_mib: 1, free_memory: Some(7), ..Default::default() };
    let body = spell_answer(&Answer::BalloonStats(stats)).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&body),
        r#"{"target_pages":256,"actual_pages":0,"target_mib":1,"actual_mib":0,"free_memory":7}"#
    );
    assert_eq!(parse_answer(&Request::BalloonStats, &body), Some(Answer::BalloonStats(stats)));
}
