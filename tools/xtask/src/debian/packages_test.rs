use super::*;

#[test]
fn a_library_is_told_from_its_neighbours() {
    for (file, is) in [
        ("libclang.so", true),
        ("libclang.so.1", true),
        ("libclang-cpp.so.14", false),
        ("libclang-14.so.1", false),
        ("libclang.a", false),
        ("libclang.sort", false),
    ] {
        assert_eq!(is_library(file, "libclang"), is, "{file}");
    }
}
