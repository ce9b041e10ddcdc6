//! Where tests go, and where cargo puts them.

use super::*;

#[test]
fn the_host_decides_what_goes_to_the_lab() {
    let options = Options::default();
    assert_eq!(lab_filter(&options, &Kvm::Hardware("kvm_intel")), None);
    assert_eq!(lab_filter(&options, &Kvm::Emulating("kvm_pvm")).as_deref(), Some("linux::"));
    assert_eq!(lab_filter(&options, &Kvm::Unusable("gone".into())).as_deref(), Some(""));
    let without = Options { no_lab: true, ..Options::default() };
    assert_eq!(lab_filter(&without, &Kvm::Unusable("gone".into())), None);
    let only = Options { only_lab: true, filter: Some("linux::date".into()), ..Options::default() };
    assert_eq!(lab_filter(&only, &Kvm::Hardware("kvm_amd")).as_deref(), Some("linux::date"));
}

#[test]
fn cargo_tells_where_it_put_programs() {
    let messages = r#"{"reason":"compiler-artifact","target":{"name":"vmm"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"rekindle"},"profile":{"test":false},"executable":"/srv/target/release/rekindle"}
{"reason":"compiler-artifact","target":{"name":"spark"},"profile":{"test":true},"executable":"/srv/target/release/deps/spark-1"}
{"reason":"build-finished","success":true}
"#;
    assert_eq!(
        executables(messages, false),
        [("rekindle".to_owned(), "/srv/target/release/rekindle".into())]
    );
    assert_eq!(
        executables(messages, true),
        [("spark".to_owned(), "/srv/target/release/deps/spark-1".into())]
    );
}
