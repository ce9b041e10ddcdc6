use super::*;

#[test]
fn what_is_not_there_is_not_created() {
    let name = "rekindle-none-0".parse().unwrap();
    for _ in 0..2 {
        let error = Tap::open(&name).unwrap_err();
        assert!(matches!(&error, Error::NoSuch { tap } if tap == "rekindle-none-0"), "{error}");
    }
}

#[test]
fn an_interface_of_another_kind_is_refused() {
    match Tap::open(&"lo".parse().unwrap()).unwrap_err() {
        Error::Kind { tap } => assert_eq!(tap, "lo"),
        // As a user who may not attach anything, or where there is no such device.
        Error::Denied { .. } | Error::Open(_) => {}
        other => panic!("{other}"),
    }
}
