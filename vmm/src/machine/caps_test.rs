use super::*;

#[test]
fn what_is_asked_for_has_a_name_and_the_rest_a_number() {
    assert_eq!(Capability(208).to_string(), "KVM_CAP_XSAVE2");
    assert_eq!(Capability(218).to_string(), "KVM_CAP_X86_TRIPLE_FAULT_EVENT");
    assert_eq!(Capability(164).to_string(), "KVM_CAP_EXCEPTION_PAYLOAD");
    assert_eq!(Capability(99_999).to_string(), "99999");
}

#[test]
fn no_name_is_there_twice() {
    for (n, (number, name)) in NAMES.iter().enumerate() {
        let earlier = &NAMES[..n];
        assert!(earlier.iter().all(|(other, title)| other != number && *title < *name), "{name}");
    }
}

/// What an image may ask for is among them.
#[test]
fn what_an_image_records_has_a_name() {
    for cap in crate::machine::frame::EXACT_EVENTS {
        assert!(Capability(cap).name().is_some(), "{cap}");
    }
}
