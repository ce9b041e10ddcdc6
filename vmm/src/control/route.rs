//! Requests as they look on the wire, both ways: method, path and body to [`Request`] and back.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Answer, Balloon, Error, Fault, Request, SnapshotRequest};

/// One request before it is understood, or after it has been spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spelled {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VmBody {
    state: VmTarget,
}

#[derive(Debug, Serialize, Deserialize)]
enum VmTarget {
    Paused,
    Resumed,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionBody {
    action_type: Action,
}

#[derive(Debug, Serialize, Deserialize)]
enum Action {
    InstanceStart,
    SendCtrlAltDel,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoBody {}

/// Understands a request. The texts are those that clients of Firecracker's API match.
pub(super) fn parse(spelled: &Spelled) -> Result<Request, Fault> {
    let Spelled { method, path, body } = spelled;
    match (method.as_str(), path.as_str()) {
        ("GET", "/") if body.is_empty() => Ok(Request::Describe),
        ("GET", "/balloon") if body.is_empty() => Ok(Request::DescribeBalloon),
        ("GET", "/balloon/statistics") if body.is_empty() => Ok(Request::BalloonStats),
        ("GET", "/" | "/balloon" | "/balloon/statistics") => {
            Err(Fault::refused("GET request cannot have a body."))
        }
        ("PATCH", "/balloon") => Ok(Request::SetBalloon(json::<Balloon>(body)?)),
        ("PATCH", "/vm") => Ok(match json::<VmBody>(body)?.state {
            VmTarget::Paused => Request::Pause,
            VmTarget::Resumed => Request::Resume,
        }),
        ("PUT", "/snapshot") => {
            let snapshot: SnapshotRequest = json(body)?;
            let out = snapshot.out.as_os_str().as_encoded_bytes();
            if out.is_empty() || out.contains(&0) {
                return Err(Fault::refused(
                    "`out` is not the path of an image: it is empty or has a NUL in it",
                ));
            }
            if snapshot.reclaim_ms > SnapshotRequest::MOST_RECLAIM_MS {
                let refusal = format!("`reclaim_ms` is more than {}", SnapshotRequest::MOST_RECLAIM_MS);
                return Err(Fault::refused(refusal));
            }
            Ok(Request::Snapshot(snapshot))
        }
        ("PUT", "/stop") => {
            if !body.is_empty() {
                let NoBody {} = json(body)?;
            }
            Ok(Request::Stop)
        }
        ("PUT", "/actions") => match json::<ActionBody>(body)?.action_type {
            Action::SendCtrlAltDel => Ok(Request::SendCtrlAltDel),
            Action::InstanceStart => {
                Err(Fault::refused("The requested operation is not supported after starting the microVM."))
            }
        },
        _ => Err(Fault::refused(format!("Invalid request method and/or path: {method} {path}."))),
    }
}

/// Spells a request out.
pub(super) fn spell(request: &Request) -> Result<Spelled, Error> {
    let (method, path, body) = match request {
        Request::Describe => ("GET", "/", Vec::new()),
        Request::Pause => ("PATCH", "/vm", bytes(&VmBody { state: VmTarget::Paused })),
        Request::Resume => ("PATCH", "/vm", bytes(&VmBody { state: VmTarget::Resumed })),
        Request::Snapshot(snapshot) => {
            if snapshot.out.to_str().is_none() {
                return Err(Error::PathNotUtf8 { path: snapshot.out.clone() });
            }
            ("PUT", "/snapshot", bytes(snapshot))
        }
        Request::DescribeBalloon => ("GET", "/balloon", Vec::new()),
        Request::SetBalloon(size) => ("PATCH", "/balloon", bytes(size)),
        Request::BalloonStats => ("GET", "/balloon/statistics", Vec::new()),
        Request::Stop => ("PUT", "/stop", Vec::new()),
        Request::SendCtrlAltDel => {
            ("PUT", "/actions", bytes(&ActionBody { action_type: Action::SendCtrlAltDel }))
        }
    };
    Ok(Spelled { method: method.to_owned(), path: path.to_owned(), body })
}

/// The body of a successful reply; `None` for the 204 that has none.
pub(super) fn spell_answer(answer: &Answer) -> Option<Vec<u8>> {
    match answer {
        Answer::Done => None,
        Answer::Description(description) => Some(bytes(description)),
        Answer::Balloon(size) => Some(bytes(size)),
        Answer::BalloonStats(stats) => Some(bytes(stats)),
        Answer::Snapshot(summary) => Some(bytes(summary)),
    }
}

/// Understands the body of a reply with status 200 to `request`; `None` where it is not what was asked for.
pub(super) fn parse_answer(request: &Request, body: &[u8]) -> Option<Answer> {
    match request {
        Request::Describe => serde_json::from_slice(body).ok().map(Answer::Description),
        Request::Snapshot(_) => serde_json::from_slice(body).ok().map(Answer::Snapshot),
        Request::DescribeBalloon => serde_json::from_slice(body).ok().map(Answer::Balloon),
        Request::BalloonStats => serde_json::from_slice(body).ok().map(Answer::BalloonStats),
        Request::Pause
        | Request::Resume
        | Request::Stop
        | Request::SetBalloon(_)
        | Request::SendCtrlAltDel => None,
    }
}

/// The body of a reply that reports a fault.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FaultBody {
    pub(super) fault_message: String,
}

/// JSON of one of the plain types above.
pub(super) fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs of strings and numbers, their paths checked, serialise")
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| {
        Fault::refused(format!("An error occurred when deserializing the json body of a request: {error}."))
    })
}
