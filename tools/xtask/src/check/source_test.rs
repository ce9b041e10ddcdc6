//! Tokens, lines and paths.

use super::*;

#[test]
fn comments_and_strings_are_not_words() {
    let source =
        Source::parse("a.rs", "//! unsafe\n/// unsafe\nfn f() { // unsafe\n    \"unsafe\";\n}\n").unwrap();
    assert_eq!(source.words(&["unsafe"]).count(), 0);
    assert_eq!(source.code_lines(), 3);
    let source = Source::parse("a.rs", "fn f() {\n    unsafe { g() }\n}\n").unwrap();
    assert_eq!(source.words(&["unsafe"]).collect::<Vec<_>>(), [(2, "unsafe")]);
}

#[test]
fn paths_through_the_crate_name_their_module() {
    let text = "use crate::{boot::load, irq::{line, chip}, self as us};\nuse std::boot;\nfn f() { crate::vcpu::run(); }\n";
    let source = Source::parse("a.rs", text).unwrap();
    assert_eq!(source.crate_modules(), [(1, "boot"), (1, "irq"), (1, "self"), (3, "vcpu")]);
}

#[test]
fn what_is_not_rust_is_an_error() {
    assert!(Source::parse("a.rs", "fn f( {").is_err());
}
