//! The verbs on a running VM, and the requests on its control socket that have no verb.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::image::Image;
use crate::patience::{SOON, scaled};
use crate::program::{Done, Launch, rekindle};
use crate::vm::Vm;

/// `rekindle snapshot`; the VM stays paused.
#[track_caller]
pub fn snapshot(vm: &Vm, out: impl AsRef<Path>) -> Image {
    snapshot_command(vm.socket(), out.as_ref()).run().ok();
    Image::at(out.as_ref())
}

/// `rekindle snapshot --resume`; the VM goes on.
#[track_caller]
pub fn snapshot_and_resume(vm: &Vm, out: impl AsRef<Path>) -> Image {
    snapshot_command(vm.socket(), out.as_ref()).args(["--resume"]).run().ok();
    Image::at(out.as_ref())
}

/// `rekindle snapshot`, about to be run.
pub fn snapshot_command(socket: &Path, out: &Path) -> Launch {
    Launch::new(["snapshot".as_ref(), "--api-socket".as_ref(), socket.as_os_str()])
        .args(["--out".as_ref(), out.as_os_str()])
}

/// `rekindle pause`.
#[track_caller]
pub fn pause(vm: &Vm) -> Done {
    on(vm, "pause")
}

/// `rekindle resume`.
#[track_caller]
pub fn resume(vm: &Vm) -> Done {
    on(vm, "resume")
}

/// `rekindle stop`.
#[track_caller]
pub fn stop(vm: &Vm) -> Done {
    on(vm, "stop")
}

#[track_caller]
fn on(vm: &Vm, verb: &str) -> Done {
    rekindle([verb.as_ref(), "--api-socket".as_ref(), vm.socket().as_os_str()])
}

/// What the VM says of itself; `None` if it does not serve requests yet, or no longer.
pub fn describe(vm: &Vm) -> Option<serde_json::Value> {
    let (status, body) = request(vm.socket(), "GET", "/", "").ok()?;
    (status == 200).then(|| serde_json::from_str(&body).expect("the description is JSON"))
}

/// Presses Ctrl-Alt-Del.
#[track_caller]
pub fn ctrl_alt_del(vm: &Vm) {
    let body = r#"{"action_type": "SendCtrlAltDel"}"#;
    let (status, body) = request(vm.socket(), "PUT", "/actions", body).expect("the VM serves its socket");
    assert_eq!(status, 204, "{body}");
}

/// One request on a control socket; the status and the body of the answer.
pub fn request(socket: &Path, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(scaled(SOON)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: vm\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    let mut byte = [0; 512];
    loop {
        let read = stream.read(&mut byte)?;
        answer.extend_from_slice(&byte[..read]);
        if let Some(whole) = parse(&String::from_utf8_lossy(&answer), read == 0) {
            return Ok(whole);
        }
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Status and body, once all of the body is there.
fn parse(answer: &str, at_end: bool) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    };
    let length = head.lines().find_map(header).unwrap_or(0);
    (at_end || body.len() >= length).then(|| (status, body.to_owned()))
}
