use super::*;

fn heard(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let len = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..len].to_vec()).unwrap()
}

#[test]
fn a_service_manager_is_told_by_path_and_by_abstract_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let name = format!("@rekindle-pages-test-{}", std::process::id());
    let sockets = [
        UnixDatagram::bind(&path).unwrap(),
        UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap()).unwrap(),
    ];
    for (to, socket) in [path.into_os_string(), name.into()].into_iter().zip(sockets) {
        let notify = Notify::to(Some(to));
        notify.ready();
        assert!(heard(&socket).starts_with("READY=1\n"));
        notify.stopping();
        assert!(heard(&socket).starts_with("STOPPING=1\n"));
    }
    // Nobody is there, or it is no name: that is not a reason to fail.
    for to in [None, Some("".into()), Some("relative".into()), Some("/nowhere/to/be/found".into())] {
        Notify::to(to).ready();
    }
}
